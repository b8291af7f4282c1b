# SPDX-License-Identifier: Apache-2.0
"""postgresql.py cancel|notify|many|large DSN: libpq used by its asynchronous calls and by threads."""

import os
import select
import sys
import threading
import time

import psycopg2
import psycopg2.extensions


LIMIT_S = int(os.environ["APP_LIMIT_S"])


def wait(connection):
    """The loop that libpq wants of whoever uses it without blocking."""
    end = time.monotonic() + LIMIT_S
    while True:
        state = connection.poll()
        if state == psycopg2.extensions.POLL_OK:
            return
        left = end - time.monotonic()
        assert left > 0, "no answer in time"
        if state == psycopg2.extensions.POLL_READ:
            select.select([connection.fileno()], [], [], left)
        else:
            select.select([], [connection.fileno()], [], left)


def open_async(dsn):
    connection = psycopg2.connect(dsn, async_=True)
    wait(connection)
    return connection


def ask(connection, sql, values=None):
    cursor = connection.cursor()
    cursor.execute(sql, values)
    wait(connection)
    return cursor.fetchall()


def open_blocking(dsn):
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    return connection


def cancel(dsn):
    """One thread blocks in a query, another asks the server to cancel it; the session goes on."""
    connection = open_blocking(dsn)
    other = open_blocking(dsn).cursor()
    cursor = connection.cursor()
    for turn in range(5):
        for i in range(50):
            cursor.execute("SELECT %s", (i,))
            assert cursor.fetchone() == (i,)

        def canceller():
            sleeping = 0
            while not sleeping:
                other.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'",
                    (connection.get_backend_pid(),),
                )
                sleeping = other.fetchone()[0]
            connection.cancel()

        thread = threading.Thread(target=canceller)
        thread.start()
        try:
            cursor.execute("SELECT pg_sleep(1000)")
            raise AssertionError("it was not cancelled")
        except psycopg2.extensions.QueryCanceledError:
            pass
        thread.join()
        cursor.execute("SELECT 11 * %s", (turn,))
        assert cursor.fetchone() == (11 * turn,)


def notify(dsn):
    """A session that only sits in select() hears each word of another, in order."""
    listener = open_async(dsn)
    cursor = listener.cursor()
    cursor.execute("LISTEN news")
    wait(listener)
    for i in range(100):
        assert ask(listener, "SELECT %s", (i,)) == [(i,)]
    speaker = open_blocking(dsn).cursor()
    heard = []
    for i in range(300):
        speaker.execute("SELECT pg_notify('news', %s)", (str(i),))
        while len(heard) <= i:
            assert select.select([listener.fileno()], [], [], LIMIT_S)[0], "notice %d is missing" % i
            listener.poll()
            while listener.notifies:
                heard.append(listener.notifies.pop(0).payload)
    assert heard == [str(i) for i in range(300)]


def many(dsn):
    """Twenty sessions in one poll(): each one's next question follows its answer."""
    sessions = {}
    poller = select.poll()
    for number in range(20):
        connection = open_async(dsn)
        cursor = connection.cursor()
        cursor.execute("SELECT %s, repeat('y', %s)", (0, number * 1000))
        sessions[connection.fileno()] = [connection, cursor, number, 0]
        poller.register(connection.fileno(), select.POLLIN | select.POLLOUT)
    done = 0
    while done < len(sessions):
        events = poller.poll(LIMIT_S * 1000)
        assert events, "nothing happens"
        for fd, _ in events:
            connection, cursor, number, turn = sessions[fd]
            state = connection.poll()
            if state == psycopg2.extensions.POLL_READ:
                poller.modify(fd, select.POLLIN)
            elif state == psycopg2.extensions.POLL_WRITE:
                poller.modify(fd, select.POLLOUT)
            else:
                assert cursor.fetchall() == [(turn, "y" * (number * 1000))]
                sessions[fd][3] = turn = turn + 1
                if turn == 100:
                    poller.unregister(fd)
                    done += 1
                    continue
                cursor.execute("SELECT %s, repeat('y', %s)", (turn, number * 1000))
                poller.modify(fd, select.POLLIN | select.POLLOUT)


def large(dsn):
    """Large objects, written and read in pieces of all sizes."""
    connection = psycopg2.connect(dsn)
    data = os.urandom(6_000_000)
    written = connection.lobject(0, "wb")
    sizes = [1, 100, 8191, 8192, 65537, 1_000_000]
    at = turn = 0
    while at < len(data):
        at += written.write(data[at : at + sizes[turn % len(sizes)]])
        turn += 1
    oid = written.oid
    written.close()
    connection.commit()
    read = connection.lobject(oid, "rb")
    got = b""
    while True:
        piece = read.read(sizes[turn % len(sizes)])
        if not piece:
            break
        got += piece
        turn += 1
    assert got == data, (len(got), len(data))
    read.unlink()
    connection.commit()
    connection.close()


globals()[sys.argv[1]]("%s user=tester dbname=postgres connect_timeout=%d" % (sys.argv[2], LIMIT_S))
