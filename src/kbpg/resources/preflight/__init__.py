"""What a host must be before kbpg changes anything on it.

Nothing is imported here: `kbpg status` asks one of these facts, and not for the whole preflight.
"""
