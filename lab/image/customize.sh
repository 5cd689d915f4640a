#!/bin/sh
# Turns a fresh Debian tree ($1) into the image of a machine: our files, the services a server has, nothing of the
# machine that built it. Runs as root, outside the tree, as the last step of mmdebstrap.
set -eu
root=$1
here=$(dirname "$0")

cp -a --no-preserve=ownership "$here/rootfs/." "$root/"
systemctl --root="$root" --quiet enable systemd-networkd systemd-resolved ssh docker containerd \
    writable-cgroups mount-fstab qemu-guest-agent

mask() {
    directory=$1
    shift
    mkdir -p "$root/etc/systemd/$directory"
    for name; do ln -sf /dev/null "$root/etc/systemd/$directory/$name"; done
}

# Every process at boot counts when seven machines share two cores: no console, no disks to trim or check, no kernel
# file systems and devices of the machine's own, no package upgrade behind an operator's back.
mask system console-getty.service getty@tty1.service getty-static.service \
    systemd-ask-password-console.path systemd-ask-password-wall.path \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-tmpfiles-clean.timer systemd-pstore.service cloud-init-hotplugd.socket \
    systemd-tmpfiles-setup-dev-early.service systemd-tmpfiles-setup-dev.service kmod-static-nodes.service \
    sys-kernel-tracing.mount sys-kernel-debug.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
    dev-hugepages.mount run-lock.mount proc-sys-fs-binfmt_misc.automount modprobe@.service \
    systemd-sysusers.service systemd-remount-fs.service systemd-network-generator.service \
    systemd-networkd-persistent-storage.service \
    systemd-journal-catalog-update.service systemd-update-done.service ldconfig.service
mask system-generators cloud-init-generator systemd-debug-generator systemd-getty-generator \
    systemd-gpt-auto-generator systemd-hibernate-resume-generator systemd-rc-local-generator systemd-run-generator \
    systemd-ssh-generator systemd-system-update-generator systemd-sysv-generator systemd-tpm2-generator
# Only when something asks for it, such as a reboot.
ln -sf /dev/null "$root/etc/systemd/system/multi-user.target.wants/systemd-logind.service"
# What cloud-init's generator would decide after looking around: there is a seed, cloud-init runs.
ln -s /usr/lib/systemd/system/cloud-init.target "$root/etc/systemd/system/multi-user.target.wants/"
# Without this module cloud-init does not check the seed against its schemas, which only ever warns and takes a third
# of its time.
rm -r "$root/usr/lib/python3/dist-packages/jsonschema"

# Every machine makes its own identity, as with Debian's cloud images.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/var/lib/dbus/machine-id" \
    "$root/var/lib/systemd/random-seed" "$root/etc/apt/apt.conf.d/99mmdebstrap" \
    "$root/etc/.resolv.conf.systemd-resolved.bak"
: >"$root/etc/machine-id"
: >"$root/etc/fstab"
ln -sfn ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/* "$root"/tmp/* "$root"/var/tmp/* \
    "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
