// SPDX-License-Identifier: Apache-2.0

// The Go side of `make interop`: what echo.c does in C, with shmipc-go.
//
//	peer server NETWORK ADDRESS
//	peer listener ADDRESS
//	peer client NETWORK ADDRESS file|memfd PREFIX BUFFER_BYTES SIZE...
//	peer load ADDRESS file|memfd PREFIX
//
// A listener (of a Unix path) at SIGUSR1 tells its clients to move, and ends when they have.  A load asks one
// thing after the other until SIGTERM, then says how many, and how many were not answered.
//
// A request is its length in 4 bytes, big endian, and so many bytes; the reply is the same again.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	shmipc "github.com/cloudwego/shmipc-go"
)

const streams, rounds = 4, 10

func must(err error, what string) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", what+":", err)
		os.Exit(1)
	}
}

func pattern(length, seed int) []byte {
	out := make([]byte, length)
	for i := range out {
		out[i] = byte(i*7 + seed)
	}
	return out
}

func read(stream *shmipc.Stream) ([]byte, error) {
	head, err := stream.BufferReader().ReadBytes(4)
	if err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint32(head))
	body, err := stream.BufferReader().ReadBytes(length)
	if err != nil {
		return nil, err
	}
	out := append([]byte(nil), body...)
	stream.BufferReader().ReleasePreviousRead()
	return out, nil
}

func write(stream *shmipc.Stream, body []byte) error {
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(body)))
	if _, err := stream.BufferWriter().WriteBytes(head[:]); err != nil {
		return err
	}
	if _, err := stream.BufferWriter().WriteBytes(body); err != nil {
		return err
	}
	return stream.Flush(false)
}

func echo(stream *shmipc.Stream) {
	defer stream.Close()
	for {
		body, err := read(stream)
		if err != nil {
			return
		}
		must(write(stream, body), "write")
	}
}

func serve(network, address string) {
	listener, err := net.Listen(network, address)
	must(err, "listen")
	fmt.Println("listening on", listener.Addr())
	for {
		conn, err := listener.Accept()
		must(err, "accept")
		go func() {
			session, err := shmipc.Server(conn, shmipc.DefaultConfig())
			must(err, "handshake")
			for {
				stream, err := session.AcceptStream()
				if err != nil {
					return
				}
				go echo(stream)
			}
		}()
	}
}

type newStreams struct{}

func (newStreams) OnNewStream(stream *shmipc.Stream) { go echo(stream) }
func (newStreams) OnShutdown(string)                 {}

func listen(address string) {
	listener, err := shmipc.NewListener(newStreams{}, shmipc.NewDefaultListenerConfig(address, "unix"))
	must(err, "listen")
	listener.SetUnlinkOnClose(false)
	restart := make(chan os.Signal, 1)
	signal.Notify(restart, syscall.SIGUSR1)
	go listener.Run()
	fmt.Println("listening on", listener.Addr())
	<-restart
	for listener.HotRestart(7) == shmipc.ErrInHandshakeStage {
		time.Sleep(10 * time.Millisecond)
	}
	for !listener.IsHotRestartDone() {
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Println("all clients have moved")
	time.Sleep(500 * time.Millisecond) // for what is open here
	must(listener.Close(), "close")
	time.Sleep(1200 * time.Millisecond) // its sessions are closed later than it says
	os.Exit(0)
}

func converse(manager *shmipc.SessionManager, sizes []int, seed int) {
	stream, err := manager.GetStream()
	must(err, "get a stream")
	must(stream.SetDeadline(time.Now().Add(20*time.Second)), "deadline")
	for round := 0; round < rounds; round++ {
		for _, size := range sizes {
			body := pattern(size, seed+round)
			must(write(stream, body), "write")
			answer, err := read(stream)
			must(err, "read")
			if !bytes.Equal(answer, body) {
				must(fmt.Errorf("%d bytes came back wrong", size), "echo")
			}
		}
	}
	manager.PutBack(stream)
}

func connect(network, address, memory, prefix string, bufferBytes int) *shmipc.SessionManager {
	config := shmipc.DefaultSessionManagerConfig()
	config.Network, config.Address = network, address
	config.SessionNum = 2
	config.ShareMemoryPathPrefix = prefix
	config.ShareMemoryBufferCap = uint32(bufferBytes)
	if os.Getenv("ODD_SLICES") != "" { // as it allows them on amd64 alone
		config.BufferSliceSizes = []*shmipc.SizePercentPair{{Size: 8171, Percent: 50}, {Size: 32745, Percent: 50}}
	}
	if memory == "memfd" {
		config.MemMapType = shmipc.MemMapTypeMemFd
	}
	manager, err := shmipc.NewSessionManager(config)
	must(err, "connect")
	return manager
}

// Wrong bytes end the process; anything else that goes wrong is an error.
func ask(manager *shmipc.SessionManager, size, seed int) error {
	stream, err := manager.GetStream()
	if err != nil {
		return err
	}
	body := pattern(size, seed)
	stream.SetDeadline(time.Now().Add(5 * time.Second))
	if err = write(stream, body); err == nil {
		var answer []byte
		if answer, err = read(stream); err == nil && !bytes.Equal(answer, body) {
			must(fmt.Errorf("%d bytes came back wrong", size), "load")
		}
	}
	if err != nil {
		stream.Close()
	} else {
		manager.PutBack(stream)
	}
	return err
}

func load(address, memory, prefix string) {
	manager := connect("unix", address, memory, prefix, 32<<20)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	asked, lost := 0, 0
	for len(stop) == 0 {
		if err := ask(manager, 1+asked*997%20000, asked); err != nil {
			fmt.Fprintln(os.Stderr, "peer: load:", err)
			lost++
			time.Sleep(5 * time.Millisecond)
		}
		if asked++; asked == 50 {
			fmt.Println("under load")
		}
	}
	fmt.Printf("%d requests, %d lost\n", asked, lost)
	manager.Close()
	time.Sleep(1200 * time.Millisecond)
}

func drive(network, address, memory, prefix string, bufferBytes int, sizes []int) {
	manager := connect(network, address, memory, prefix, bufferBytes)
	var all sync.WaitGroup
	for i := 0; i < streams; i++ {
		all.Add(1)
		go func(seed int) {
			defer all.Done()
			converse(manager, sizes, seed)
		}(i)
	}
	all.Wait()
	must(manager.Close(), "close")
	time.Sleep(1200 * time.Millisecond) // its sessions are closed later than it says
	fmt.Println("all came back right")
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == "server" {
		serve(os.Args[2], os.Args[3])
	}
	if len(os.Args) == 3 && os.Args[1] == "listener" {
		listen(os.Args[2])
	}
	if len(os.Args) == 5 && os.Args[1] == "load" {
		load(os.Args[2], os.Args[3], os.Args[4])
		return
	}
	if len(os.Args) < 8 || os.Args[1] != "client" {
		fmt.Fprintln(os.Stderr, "usage: see peer.go")
		os.Exit(2)
	}
	var sizes []int
	for _, text := range os.Args[7:] {
		size, err := strconv.Atoi(text)
		must(err, "size")
		sizes = append(sizes, size)
	}
	bufferBytes, err := strconv.Atoi(os.Args[6])
	must(err, "buffer bytes")
	drive(os.Args[2], os.Args[3], os.Args[4], os.Args[5], bufferBytes, sizes)
}
