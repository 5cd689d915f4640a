#!/bin/sh
# Turns a fresh Debian tree ($1) into the image of a machine: our files, the services a server has, nothing of the
# machine that built it. Runs as root, outside the tree, as the last step of mmdebstrap.
set -eu
root=$1
here=$(dirname "$0")

cp -a --no-preserve=ownership "$here/rootfs/." "$root/"
systemctl --root="$root" --quiet enable systemd-networkd systemd-resolved ssh docker containerd \
    kernel-interfaces qemu-guest-agent

# No console, no disks to trim or check, no package upgrade behind an operator's back: only cost at boot.
for unit in console-getty.service getty@tty1.service getty-static.service systemd-logind.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-tmpfiles-clean.timer systemd-pstore.service cloud-init-hotplugd.socket \
    systemd-networkd-persistent-storage.service \
    systemd-journal-catalog-update.service systemd-update-done.service ldconfig.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# Every machine makes its own identity, as with Debian's cloud images.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/var/lib/dbus/machine-id" "$root/var/lib/systemd/random-seed"
: >"$root/etc/machine-id"
ln -sfn ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/* "$root"/tmp/* "$root"/var/tmp/* \
    "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
