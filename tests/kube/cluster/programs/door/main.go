// Door lets programs outside of a network namespace connect to one address inside of it.
//
//	door TARGET COMMAND...
//
// listens on a free port of the loopback, prints where, and becomes COMMAND, which must enter the namespace and start
// `door TARGET` there with the listening socket as its standard input.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"syscall"
)

func main() {
	var err error
	if len(os.Args) == 2 {
		err = serve(os.Args[1])
	} else {
		err = listen(os.Args[2:])
	}
	log.Fatal(err)
}

func listen(command []string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	program, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	if err := syscall.Dup3(int(socket.Fd()), 0, 0); err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return syscall.Exec(program, command, os.Environ())
}

func serve(target string) error {
	listener, err := net.FileListener(os.Stdin)
	if err != nil {
		return err
	}
	for {
		outside, err := listener.Accept()
		if err != nil {
			return err
		}
		go connect(outside, target)
	}
}

func connect(outside net.Conn, target string) {
	defer outside.Close()
	inside, err := net.Dial("tcp", target)
	if err != nil {
		log.Print(err)
		return
	}
	defer inside.Close()
	go func() {
		io.Copy(inside, outside)
		inside.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(outside, inside)
}
