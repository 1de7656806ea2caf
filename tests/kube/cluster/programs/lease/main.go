// Lease prints what client-go reads of a Lease that somebody leads by:
//
//	lease NAMESPACE NAME
//
// asks the API server of $KUBECONFIG as every tool does that is made with client-go's leader election.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: lease NAMESPACE NAME")
	}
	record, err := read(os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(record); err != nil {
		log.Fatal(err)
	}
}

func read(namespace, name string) (*resourcelock.LeaderElectionRecord, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	lock := resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Client:    client.CoordinationV1(),
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	record, _, err := lock.Get(ctx)
	return record, err
}
