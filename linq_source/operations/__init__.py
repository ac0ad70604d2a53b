"""The verbs: sync, settle, audit, forget, and what they report."""
