"""The examples of docs/examples under the real frameworks; `nox -s frameworks` installs these and runs everything here."""
