"""Where answers come from: one module per provider, loaded when it is used."""
