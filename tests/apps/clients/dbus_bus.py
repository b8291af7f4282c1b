# SPDX-License-Identifier: Apache-2.0
"""dbus_bus.py service|echo|signals|files|clients ADDRESS CALLS: a service on a bus and who uses it.

The name of the service is org.shmipc.Test; libdbus and GLib's main loop do the work.
"""

import os
import random
import sys

import dbus
import dbus.bus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

NAME = "org.shmipc.Test"
LIMIT_S = int(os.environ["APP_LIMIT_S"])


class Service(dbus.service.Object):
    @dbus.service.method(NAME, in_signature="uay", out_signature="uay", byte_arrays=True)
    def Echo(self, number, data):
        return number, data

    @dbus.service.method(NAME, in_signature="a{sas}", out_signature="a{su}")
    def Count(self, lists):
        return {name: sum(len(word) for word in words) for name, words in lists.items()}

    @dbus.service.method(NAME, in_signature="h", out_signature="s")
    def Read(self, descriptor):
        with os.fdopen(descriptor.take(), "rb") as file:
            return file.read().decode()

    @dbus.service.method(NAME, in_signature="u", out_signature="")
    def Emit(self, count):
        for i in range(count):
            self.Tick(i, "t" * (i % 300))

    @dbus.service.signal(NAME, signature="us")
    def Tick(self, number, text):
        pass


def service(address, calls):
    bus = dbus.bus.BusConnection(address)
    name = dbus.service.BusName(NAME, bus)
    Service(bus, "/test")
    print("ready", name.get_name(), flush=True)
    GLib.MainLoop().run()


def open_service(address):
    bus = dbus.bus.BusConnection(address)
    return bus, dbus.Interface(bus.get_object(NAME, "/test"), NAME)


def echo(address, calls):
    """Blocking calls, small and large, each answer compared."""
    _, proxy = open_service(address)
    rng = random.Random(2)
    for i in range(calls):
        data = rng.randbytes(rng.randrange(200))
        number, back = proxy.Echo(i, dbus.ByteArray(data), byte_arrays=True)
        assert (number, back) == (i, data), i
    for size in (65537, 1_000_003, 5_000_000):
        data = rng.randbytes(size)
        assert proxy.Echo(0, dbus.ByteArray(data), byte_arrays=True)[1] == data, size
    words = {"k%d" % i: ["w" * (j % 20) for j in range(i)] for i in range(50)}
    counted = proxy.Count(dbus.Dictionary(words, signature="sas"))
    assert counted == {name: sum(map(len, words[name])) for name in words}


def signals(address, calls):
    """The main loop hears every signal, in order."""
    bus, proxy = open_service(address)
    loop = GLib.MainLoop()
    heard = []

    def tick(number, text):
        assert text == "t" * (number % 300)
        heard.append(int(number))
        if len(heard) == calls:
            loop.quit()

    bus.add_signal_receiver(tick, "Tick", NAME, NAME, "/test")
    bus.get_object("org.freedesktop.DBus", "/org/freedesktop/DBus").GetId()
    for i in range(50):
        proxy.Echo(i, dbus.ByteArray(b"x"), byte_arrays=True)
    proxy.Emit(calls, reply_handler=lambda: None, error_handler=lambda error: os._exit(3))
    GLib.timeout_add_seconds(LIMIT_S, loop.quit)
    loop.run()
    assert heard == list(range(calls)), (len(heard), calls)


def files(address, calls):
    """Descriptors travel with the messages, on a connection that is already in use."""
    _, proxy = open_service(address)
    for i in range(50):
        proxy.Echo(i, dbus.ByteArray(b"x"), byte_arrays=True)
    for i in range(calls // 20):
        reader, writer = os.pipe()
        os.write(writer, b"in the pipe %d" % i)
        os.close(writer)
        assert proxy.Read(dbus.types.UnixFd(reader)) == "in the pipe %d" % i
        os.close(reader)


def clients(address, calls):
    """Many connections, asked in turn, none waiting for the other."""
    loop = GLib.MainLoop()
    open_calls = [0]
    failures = []
    proxies = [open_service(address) for _ in range(10)]

    def ask(proxy, i):
        data = bytes([i % 256]) * (i % 5000)

        def answered(number, back):
            if (int(number), bytes(back)) != (i, data):
                failures.append(i)
            open_calls[0] -= 1
            if i + 10 < calls:
                ask(proxy, i + 10)
            elif open_calls[0] == 0:
                loop.quit()

        open_calls[0] += 1
        proxy.Echo(i, dbus.ByteArray(data), reply_handler=answered, error_handler=failures.append,
                   byte_arrays=True)

    for i, (_, proxy) in enumerate(proxies):
        ask(proxy, i)
    GLib.timeout_add_seconds(LIMIT_S, lambda: os._exit(4))
    loop.run()
    assert not failures, failures[:3]


dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
