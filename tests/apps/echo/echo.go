// SPDX-License-Identifier: Apache-2.0

// The echo program (lib/echo.sh) in Go, whose runtime makes its system calls without libc.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"strconv"
	"strings"
)

const questions = 2000

type half interface{ CloseWrite() error }

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func split(text string) (network, address string) {
	kind, rest, _ := strings.Cut(text, ":")
	return kind, rest
}

func serve(text string) {
	listener, err := net.Listen(split(text))
	must(err)
	fmt.Println("ready")
	for {
		conn, err := listener.Accept()
		must(err)
		go func() {
			_, err := io.Copy(conn, conn)
			if err != nil {
				fmt.Println(err)
			}
			conn.Close()
		}()
	}
}

func dial(text string) net.Conn {
	conn, err := net.Dial(split(text))
	must(err)
	return conn
}

func ask(text string) {
	conn := dial(text)
	answers := bufio.NewReader(conn)
	for i := 0; i < questions; i++ {
		question := fmt.Sprintf("question %d\n", i)
		_, err := io.WriteString(conn, question)
		must(err)
		answer, err := answers.ReadString('\n')
		must(err)
		if answer != question {
			must(fmt.Errorf("wrong answer to question %d", i))
		}
	}
	must(conn.Close())
}

func sendMuch(text string, size int) {
	block := make([]byte, size)
	rand.New(rand.NewSource(1)).Read(block)
	conn := dial(text)
	go func() {
		_, err := conn.Write(block)
		must(err)
		must(conn.(half).CloseWrite())
	}()
	received, err := io.ReadAll(conn)
	must(err)
	if !bytes.Equal(received, block) {
		must(fmt.Errorf("%d bytes came back, or wrong ones", len(received)))
	}
	must(conn.Close())
}

func main() {
	if os.Args[1] == "server" {
		serve(os.Args[2])
		return
	}
	size, err := strconv.Atoi(os.Args[3])
	must(err)
	ask(os.Args[2])
	sendMuch(os.Args[2], size)
}
