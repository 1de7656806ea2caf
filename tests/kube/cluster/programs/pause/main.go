// Pause holds the namespaces of a pod open: it waits until it is told to stop. With a port, it tells whoever connects there the name
// of its host, which is that of the pod.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	if len(os.Args) > 1 {
		go tell(os.Args[1])
	}
	fmt.Println("waiting")
	fmt.Println(<-stop)
}

func tell(port string) {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	name, _ := os.Hostname()
	for {
		if connection, err := listener.Accept(); err == nil {
			fmt.Fprintln(connection, name)
			connection.Close()
		}
	}
}
