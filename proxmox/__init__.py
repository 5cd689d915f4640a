"""The domain above the machine: who owns a VM id or an address on Proxmox VE, our marker, power. No Pulumi in here."""
