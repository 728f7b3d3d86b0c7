"""Who may connect to kbpg's ports: the policy, and the kernel's rules read back. Pure; docs/firewall.md."""
