"""A blinded reading study: its kit, its answers, its scores."""
