"""From arguments to a Call, one file per route: messages, options, thinking, catalog, server types, URLs. No I/O."""
