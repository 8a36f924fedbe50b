#!/usr/bin/env python3
"""A worker for a port with packets of four bytes, in nothing but the standard library.

A request is a JSON list of numbers, its answer their sum. Ends when its standard input does.
"""

import json
import struct
import sys


def read_packet(stream):
    """Returns the next packet, or None at the end of the input."""
    prefix = stream.read(4)
    if len(prefix) < 4:
        return None
    (length,) = struct.unpack(">I", prefix)
    return stream.read(length)


def write_packet(stream, data):
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


def main():
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while (request := read_packet(requests)) is not None:
        write_packet(answers, json.dumps(sum(json.loads(request))).encode())


if __name__ == "__main__":
    main()
