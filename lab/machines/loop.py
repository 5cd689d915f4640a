"""Loop devices for data disks, detached by the kernel when nobody holds them any more.

LOOP_CONFIGURE with LO_FLAGS_AUTOCLEAR (linux/loop.h; Linux 5.8): the device lives as long as someone has it open, here
the file descriptor kept by this process and, inside the machine, a mount. When both die so does the device, whatever
killed them.
"""

import asyncio
import ctypes
import errno
import fcntl
import os
import stat
from pathlib import Path

LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A
LO_FLAGS_AUTOCLEAR = 4
LOOP_MAJOR = 7
DETACH_DEADLINE = 5.0
POLL = 0.02
ATTEMPTS = 64  # another process may take the free number between the two calls


class _LoopInfo(ctypes.Structure):
    _fields_ = (
        ("lo_device", ctypes.c_uint64),
        ("lo_inode", ctypes.c_uint64),
        ("lo_rdevice", ctypes.c_uint64),
        ("lo_offset", ctypes.c_uint64),
        ("lo_sizelimit", ctypes.c_uint64),
        ("lo_number", ctypes.c_uint32),
        ("lo_encrypt_type", ctypes.c_uint32),
        ("lo_encrypt_key_size", ctypes.c_uint32),
        ("lo_flags", ctypes.c_uint32),
        ("lo_file_name", ctypes.c_char * 64),
        ("lo_crypt_name", ctypes.c_char * 64),
        ("lo_encrypt_key", ctypes.c_char * 32),
        ("lo_init", ctypes.c_uint64 * 2),
    )


class _LoopConfig(ctypes.Structure):
    _fields_ = (
        ("fd", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("info", _LoopInfo),
        ("reserved", ctypes.c_uint64 * 8),
    )


class LoopDevice:
    """A file as a block device at ``path`` (``/dev/loopN``). Raises OSError when the kernel refuses."""

    def __init__(self, file: Path) -> None:
        backing = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._file = file.resolve()
            self.path, self._fd = _configure(backing, str(self._file))
        finally:
            os.close(backing)

    async def close(self) -> None:
        """Lets go of the device and waits until the kernel has detached it.

        A file system that a killed machine had mounted is unmounted only when its namespace is taken apart; the file
        must not get a second device before that.
        """
        os.close(self._fd)
        for _ in range(round(DETACH_DEADLINE / POLL)):
            if not self._attached():
                return
            await asyncio.sleep(POLL)
        raise OSError(errno.EBUSY, f"still in use {DETACH_DEADLINE:.0f} s after the end of its machine", str(self.path))

    def _attached(self) -> bool:
        try:
            backing = Path(f"/sys/block/{self.path.name}/loop/backing_file").read_text()
        except OSError:
            return False
        return backing.rstrip("\n") == str(self._file)


def _configure(backing: int, name: str) -> tuple[Path, int]:
    config = _LoopConfig(fd=backing)
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR
    config.info.lo_file_name = os.fsencode(name)[-63:]
    for _ in range(ATTEMPTS):
        with open("/dev/loop-control", "rb") as control:  # noqa: PTH123 (a device)
            number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
        device = Path(f"/dev/loop{number}")
        if not device.exists():  # a /dev that is not a devtmpfs
            os.mknod(device, 0o660 | stat.S_IFBLK, os.makedev(LOOP_MAJOR, number))
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, LOOP_CONFIGURE, config)
        except OSError as error:
            os.close(fd)
            if error.errno != errno.EBUSY:
                raise
        else:
            return device, fd
    raise OSError(errno.EBUSY, f"no free loop device after {ATTEMPTS} attempts", name)
