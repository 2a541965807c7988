"""Strangers at the public port of strangers.sh, and a good sender beside them.

strangers.py flood PORT COUNT SECONDS | strangers.py measure PORT SECONDS BOMBS

`flood` holds COUNT connections: a third pipelines refused requests and reads nothing, a third sends a head a byte a second, a
third says nothing; one that is closed comes again after four seconds. It prints a line once all of them were opened.

`measure` is a good sender of 20 deliveries a second, each on a connection of its own; beside it BOMBS bodies of 1 MB a second
come with a signature of the right form, or with a token that is not the right one. It prints the good sender's times, and ends
with 1 where one of its deliveries failed or its p99 is 200 ms or more. Everybody comes from one address, as behind a proxy.
"""
import asyncio
import hashlib
import hmac
import json
import resource
import select
import socket
import sys
import time

TOKEN = "hooks-hooks-hooks-hooks-hooks-hooks"
RATE = 20
P99_MAX = 0.2
BOMB = b"[" + b"{\"a\":0}," * 130_000 + b"0]"

AGAIN_AFTER = 4
times, failed, answered = [], [], {}
port = int(sys.argv[2])


def post(path, body, headers=""):
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def flood(count, seconds):
    refused = post("/hooks/path/another", b"{}") * 50
    slow = b"POST /hooks/path/x HTTP/1.1\r\nhost: x\r\nx-slow: "
    poll, held, due, opened, is_told = select.epoll(), {}, [(0.0, number) for number in range(count)], 0, False
    until, dripped = time.monotonic() + seconds, 0.0
    while (now := time.monotonic()) < until:
        coming = [number for at, number in due[:200] if at <= now]
        del due[: len(coming)]
        for number in coming:
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            held[one.fileno()] = (one, number)
            # whoever reads nothing still notices that the other side has ended
            poll.register(one, select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLONESHOT)
            opened += 1
        if opened >= count and not is_told:
            is_told = True
            print(f"{count} strangers", flush=True)
        for number, events in poll.poll(0 if coming else 0.01, 500):
            one, kind = held[number]
            try:
                if events & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
                    raise ConnectionError
                if kind % 3 < 2:
                    one.send(refused if kind % 3 == 0 else slow)
                poll.modify(one, select.EPOLLRDHUP | select.EPOLLONESHOT)
            except OSError:
                del held[number]
                one.close()
                due.append((now + AGAIN_AFTER, kind))
        if now - dripped >= 1:
            dripped = now
            for one, kind in held.values():
                if kind % 3 == 1:
                    try:
                        one.send(b"x")
                    except OSError:
                        # the next look at it tells
                        pass
    print(f"{opened} connections", flush=True)


async def bomb(number):
    headers = f"x-signature: {'ab' * 32}\r\n" if number % 2 else ""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post("/hooks/signed" if number % 2 else "/hooks/token", BOMB, headers))
        status = (await asyncio.wait_for(reader.read(12), 30)).decode()
        answered[status] = answered.get(status, 0) + 1
        writer.close()
    except (OSError, asyncio.TimeoutError):
        answered["cut"] = answered.get("cut", 0) + 1


async def deliver(number):
    body = json.dumps({"id": number, "email": f"{number}@example.com", "token": TOKEN}).encode()
    signature = hmac.new(TOKEN.encode(), body, hashlib.sha256).hexdigest()
    kind = number % 3
    path = ("/hooks/path/" + TOKEN, "/hooks/signed", "/hooks/token")[kind]
    began = time.monotonic()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(path, body, f"x-signature: {signature}\r\n" if kind == 1 else ""))
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
        writer.close()
        times.append(time.monotonic() - began)
        if b" 200 " not in answer:
            failed.append((path.split("/")[2], answer.decode().strip()))
    except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
        failed.append((path.split("/")[2], repr(error)))


async def measure(seconds, bombs):
    until, tasks = time.monotonic() + seconds, []
    began, sent, thrown = time.monotonic(), 0, 0
    while (now := time.monotonic()) < until:
        while sent < (now - began) * RATE:
            tasks.append(asyncio.create_task(deliver(sent)))
            sent += 1
        while thrown < (now - began) * bombs:
            tasks.append(asyncio.create_task(bomb(thrown)))
            thrown += 1
        await asyncio.sleep(0.01)
    await asyncio.gather(*tasks)
    times.sort()
    at = lambda share: times[min(len(times) - 1, int(share * len(times)))] if times else float("inf")
    print(
        f"{sent} good deliveries, {len(failed)} failed; p50 {1000 * at(0.5):.1f} ms, p99 {1000 * at(0.99):.1f} ms, worst "
        f"{1000 * at(1):.0f} ms" + (f"; {thrown} bodies of 1 MB: {answered}" if thrown else "")
    )
    for kind, what in failed[:5]:
        print(f"  {kind}: {what}")
    return not failed and at(0.99) < P99_MAX


hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
if sys.argv[1] == "flood":
    if hard < int(sys.argv[3]) + 100:
        sys.exit(f"{sys.argv[3]} connections need more than {hard} file descriptors")
    flood(int(sys.argv[3]), int(sys.argv[4]))
else:
    sys.exit(0 if asyncio.run(measure(int(sys.argv[3]), int(sys.argv[4]))) else 1)
