"""The domain below Docker: SSH, files, packages, disks and engine settings of one host. No Pulumi in here."""
