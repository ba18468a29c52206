"""The hosted platform: 202 polling, results behind redirects (302), assets and media. Knows no socket."""
