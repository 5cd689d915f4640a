"""The client of the probe: writes numbers, one after the other, to whichever replica answers, and says who did and when.

Arguments: port, seconds between writes, ``node=address`` of each replica, the first number. Runs until it is killed.
"""

import socket
import sys
import time

PATIENCE = 1.0
#: A replica that did not answer is left alone for so long, unless no other answers.
AWAY = 2.0


def write(address, port, number):
    """Whether a replica acknowledged this number."""
    try:
        with socket.create_connection((address, port), PATIENCE) as replica:
            replica.sendall(b"%d\n" % number)
            return int(replica.recv(64)) == number
    except (OSError, ValueError):
        return False


port, pause = int(sys.argv[1]), float(sys.argv[2])
replicas = [entry.split("=") for entry in sys.argv[3:-1]]
number = int(sys.argv[-1])
failed = dict.fromkeys((name for name, _ in replicas), 0.0)
while True:
    replicas.append(replicas.pop(0))
    now = time.monotonic()
    for name, address in sorted(replicas, key=lambda replica: now - failed[replica[0]] < AWAY):
        if write(address, port, number):
            failed[name] = 0.0
            print(number, name, time.time(), flush=True)
            number += 1
            break
        failed[name] = time.monotonic()
    time.sleep(pause)
