"""The embedded lab: a Proxmox VE API on this machine with real machines behind it."""
