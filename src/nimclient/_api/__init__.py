"""Arguments to Call, one file a route: messages, options, thinking, the catalog, server types, URLs. No I/O, no clock."""
