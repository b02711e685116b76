"""Plain HTTP to vendors: one layer under all providers, and the only place that loads a client."""
