"""A replica of the probe: appends the number it is given to a file, brings it to the disk, answers with it."""

import os
import signal
import socket
import sys

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
file = os.open("/data/writes", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
# A crash may have left half a line: the next number must not be glued to it.
os.write(file, b"\n")
with socket.create_server(("0.0.0.0", int(sys.argv[1]))) as server:
    while True:
        client, _ = server.accept()
        with client:
            client.settimeout(2)
            try:
                number = int(client.recv(64))
                os.write(file, b"%d\n" % number)
                os.fsync(file)
                client.sendall(b"%d\n" % number)
            except (ValueError, TimeoutError, ConnectionError):
                pass
