"""What the built-in middleware and hooks do, without their shape as guests."""
