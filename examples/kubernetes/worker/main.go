// Worker is the application of sidecar.yaml: it works while its own pod leads, for which the sidecar campaigns.
//
// It asks who leads before each piece of work. By the time it acts another may lead, so what it writes is written only if the
// fencing token that it was told is current still. Whatever else it writes to must compare the token in the same way.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"
)

// Between two pieces of work, or two questions whether there are any.
const pause = 500 * time.Millisecond

var (
	endpoint  = os.Getenv("QUORATE_ENDPOINTS")
	namespace = os.Getenv("NAMESPACE")
	pod       = os.Getenv("POD")
	client    = http.Client{Timeout: 2 * time.Second}
)

type election struct {
	Leaders []struct {
		Candidate    string `json:"candidate"`
		FencingToken uint64 `json:"fencingToken"`
	} `json:"leaders"`
}

type transacted struct {
	Succeeded bool `json:"succeeded"`
}

func main() {
	for ; ; time.Sleep(pause) {
		token, err := leads()
		if err == nil && token > 0 {
			err = work(token)
		}
		if err != nil {
			// Whoever does not know whether it leads does nothing.
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// The fencing token of this pod; 0 while it does not lead.
func leads() (uint64, error) {
	answer, err := client.Get(fmt.Sprintf("%s/v1/elections/%s/worker", endpoint, namespace))
	var present election
	if err := read(answer, err, &present); err != nil {
		return 0, err
	}
	for _, leader := range present.Leaders {
		if leader.Candidate == pod {
			return leader.FencingToken, nil
		}
	}
	return 0, nil
}

// A piece of work: here it is only written down who has done it.
func work(token uint64) error {
	fence := map[string]any{"kind": "election", "namespace": namespace, "name": "worker", "fencingToken": token}
	body, err := json.Marshal(map[string]any{
		"compare": []any{map[string]any{"fence": fence}},
		// JSON has bytes as base64.
		"success": []any{map[string]any{"op": "put", "key": "worker/done-by", "value": []byte(pod)}},
	})
	if err != nil {
		return err
	}
	answer, err := client.Post(endpoint+"/v1/txn", "application/json", bytes.NewReader(body))
	var done transacted
	if err := read(answer, err, &done); err != nil {
		return err
	}
	if !done.Succeeded {
		fmt.Printf("%s leads no more: fencing token %d is not current\n", pod, token)
		return nil
	}
	fmt.Printf("%s has worked with fencing token %d\n", pod, token)
	return nil
}

func read(answer *http.Response, err error, into any) error {
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	// No election is there before anybody has campaigned.
	if answer.StatusCode == http.StatusNotFound {
		return nil
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", answer.Request.URL, answer.Status)
	}
	return json.NewDecoder(answer.Body).Decode(into)
}
