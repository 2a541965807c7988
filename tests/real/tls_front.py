"""TLS on one address in front of a plain listener on another, bytes for bytes.

usage: tls_front.py ADDRESS:PORT ADDRESS:PORT, with the certificate and its key named by CERT and KEY"""

import os
import socket
import ssl
import sys
import threading


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one side has gone, and the other is told by the close below


def serve(client, behind):
    try:
        with context.wrap_socket(client, server_side=True) as outside, socket.create_connection(behind) as inside:
            back = threading.Thread(target=pump, args=(inside, outside), daemon=True)
            back.start()
            pump(outside, inside)
            back.join()
    except OSError:
        client.close()


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.environ["CERT"], os.environ["KEY"])
front, behind = map(address, sys.argv[1:3])
with socket.create_server(front) as listener:
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, behind), daemon=True).start()
