"""The contract of providers, as a suite to run on your own."""
