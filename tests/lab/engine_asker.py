"""Runs on a manager: asks its engine again and again, over its socket, and writes each answer as a line of JSON.

Argument: seconds between questions. Ends when nobody reads any more. Standard library only, and little of it.
"""

import json
import socket
import sys
import time

#: An engine that knows no leader may keep its answer back for 20 s.
PATIENCE = 1.0


def ask(path):
    """Status, headers and body; None where nothing came in time."""
    try:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.settimeout(PATIENCE)
            engine.connect("/run/docker.sock")
            engine.sendall(f"GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
            head, _, body = b"".join(iter(lambda: engine.recv(65536), b"")).partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body
    except (OSError, ValueError, IndexError):
        return None


def control():
    """Whether the engine takes itself for an active manager. A ping tells, without a word to any other engine."""
    said = ask("/_ping")
    return said is not None and said[1].get("swarm") == "active/manager"


def raft():
    """The managers in raft by name: whether the leader reaches each. None where no leader is known."""
    said = ask("/nodes")
    if said is None or said[0] != 200:
        return None
    listed = [(n["Description"]["Hostname"], n["ManagerStatus"]) for n in json.loads(said[2]) if n.get("ManagerStatus")]
    # Around an election lists come that name no leader, and empty ones: they know nothing.
    if not any(status.get("Leader") for _, status in listed):
        return None
    return {name: status.get("Reachability") == "reachable" for name, status in listed}


while True:
    begun = time.monotonic()
    is_manager = control()
    print(json.dumps({"at": time.time(), "control": is_manager, "raft": raft() if is_manager else None}), flush=True)
    time.sleep(max(0.0, float(sys.argv[1]) - (time.monotonic() - begun)))
