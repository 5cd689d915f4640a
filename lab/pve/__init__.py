"""The lab's Proxmox VE: an API with three hosts whose virtual machines are real systemd-nspawn machines.

It answers what Proxmox VE 9 answers, in its words, for the endpoints that a provider or a domain client needs, and checks
every request and every answer against the official schema. No client needs to know that it talks to a lab.
"""
