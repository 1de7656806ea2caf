// Lease is a candidate for a Kubernetes Lease, with client-go and the settings that its documentation and most controllers
// use: a lease of 15 s, renewed within 10 s, looked at every 2 s. `quorate bench failover --against lease` starts two of them.
//
//	lease --kubeconfig FILE --namespace NAMESPACE --name NAME --identity CANDIDATE
//
// prints `waiting` when it has seen that another one leads, and `granted` when it leads itself. At SIGTERM it releases the
// Lease and ends; SIGKILL is a crash.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os/signal"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how the API server is reached")
	namespace := flag.String("namespace", "default", "where the Lease is")
	name := flag.String("name", "quorate-bench", "what it is called")
	identity := flag.String("identity", "", "who this candidate is")
	flag.Parse()
	if *identity == "" {
		log.Fatal("--identity is missing: name this candidate")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: *namespace, Name: *name},
			Client:     kubernetes.NewForConfigOrDie(config).CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: *identity},
		},
		LeaseDuration:   leaseDuration,
		RenewDeadline:   renewDeadline,
		RetryPeriod:     retryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { fmt.Println("granted") },
			OnStoppedLeading: func() {},
			OnNewLeader: func(leader string) {
				if leader != *identity {
					fmt.Println("waiting")
				}
			},
		},
	})
}
