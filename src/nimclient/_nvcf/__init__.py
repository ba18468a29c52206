"""The hosted platform: 202 polling, results that lie elsewhere (302), assets and media. Knows no socket."""
