// SPDX-License-Identifier: Apache-2.0

// The Go side of `make interop`: what echo.c does in C, with shmipc-go.
//
//	peer server NETWORK ADDRESS
//	peer client NETWORK ADDRESS file|memfd PREFIX BUFFER_BYTES SIZE...
//
// A request is its length in 4 bytes, big endian, and so many bytes; the reply is the same again.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
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

func drive(network, address, memory, prefix string, bufferBytes int, sizes []int) {
	config := shmipc.DefaultSessionManagerConfig()
	config.Network, config.Address = network, address
	config.SessionNum = 2
	config.ShareMemoryPathPrefix = prefix
	config.ShareMemoryBufferCap = uint32(bufferBytes)
	if memory == "memfd" {
		config.MemMapType = shmipc.MemMapTypeMemFd
	}
	manager, err := shmipc.NewSessionManager(config)
	must(err, "connect")
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
