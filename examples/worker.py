#!/usr/bin/env python3
"""A worker as a user would write it: reads requests and writes replies, each behind a length of four bytes.

A request is a JSON list of numbers, the reply their sum.
"""
import json
import struct
import sys


def read_exactly(stream, length):
    data = stream.read(length)
    return data if len(data) == length else None


def main():
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    while (prefix := read_exactly(requests, 4)) is not None:
        (length,) = struct.unpack(">I", prefix)
        numbers = json.loads(read_exactly(requests, length))
        reply = json.dumps(sum(numbers)).encode()
        replies.write(struct.pack(">I", len(reply)) + reply)
        replies.flush()


if __name__ == "__main__":
    main()
