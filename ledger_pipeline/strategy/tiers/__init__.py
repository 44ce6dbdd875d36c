"""How preflight reads a source: its names (scopes), its values (flow), and what makes a tier (the other modules)."""
