"""The cluster on one screen: asked in one bounded pass, kept as one value, shown as text or JSON."""
