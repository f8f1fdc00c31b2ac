"""From resources to delivery configuration: compile, verdicts, serial form."""
