// Leads an election and writes to a store that checks fencing tokens, with Go's standard library only.
//
//	go run lead.go STORE_URL NAME [QUORATE_URL...]
//
// The deadline counts from before each request was sent, on the monotonic clock that time.Now reads. After it, this program
// acts as if it held nothing, whatever the network does.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const ttl = 2 * time.Second

// The session is over: whatever it held belongs to somebody else by now.
var errEnded = errors.New("the session has ended")

var client = http.Client{Timeout: ttl}

type answer struct {
	Session      string `json:"session"`
	ValidForMs   int64  `json:"validForMs"`
	FencingToken uint64 `json:"fencingToken"`
	Detail       string `json:"detail"`
}

// A session that a goroutine keeps alive, at whichever member answers.
type session struct {
	urls     []string
	name     string
	mutex    sync.Mutex
	deadline time.Time
}

func begin(urls []string, name string) *session {
	s := &session{urls: urls}
	for s.name == "" {
		sent := time.Now()
		created, err := s.call("/v1/sessions", map[string]any{"ttlMs": ttl.Milliseconds(), "client": name})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			time.Sleep(ttl / 5)
			continue
		}
		s.name, s.deadline = created.Session, sent.Add(time.Duration(created.ValidForMs)*time.Millisecond)
	}
	go s.keepAlive()
	return s
}

func (s *session) isValid() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return time.Now().Before(s.deadline)
}

// Waits until it leads; the fencing token.
func (s *session) campaign(election string) (uint64, error) {
	for s.isValid() {
		granted, err := s.call("/v1/elections/"+election+"/campaign", map[string]any{"session": s.name, "waitMs": 1000})
		if err != nil {
			return 0, err
		}
		if granted.FencingToken > 0 {
			return granted.FencingToken, nil
		}
	}
	return 0, errEnded
}

func (s *session) keepAlive() {
	for s.isValid() {
		sent := time.Now()
		alive, err := s.call("/v1/sessions/"+s.name+"/keepalive", nil)
		until := sent.Add(time.Duration(alive.ValidForMs) * time.Millisecond)
		s.mutex.Lock()
		if errors.Is(err, errEnded) {
			s.deadline = time.Time{}
		} else if until.After(s.deadline) && time.Now().Before(s.deadline) {
			s.deadline = until
		}
		s.mutex.Unlock()
		time.Sleep(ttl / 5)
	}
}

// Asks the members in turn. What is still waited for (504) is an answer too.
func (s *session) call(path string, body any) (answer, error) {
	for _, url := range s.urls {
		var content bytes.Buffer
		if body != nil {
			if err := json.NewEncoder(&content).Encode(body); err != nil {
				return answer{}, err
			}
		}
		response, err := client.Post(url+path, "application/json", &content)
		if err != nil {
			continue
		}
		var said answer
		err = json.NewDecoder(response.Body).Decode(&said)
		response.Body.Close()
		switch {
		case err != nil || response.StatusCode >= 500:
			continue
		case response.StatusCode == http.StatusGone:
			return answer{}, errEnded
		case response.StatusCode >= 400:
			return answer{}, errors.New(said.Detail)
		}
		return said, nil
	}
	return answer{}, nil
}

func write(store, name string, token uint64) error {
	request, err := http.NewRequest(http.MethodPut, store, strings.NewReader("written by "+name))
	if err != nil {
		return err
	}
	request.Header.Set("Fencing-Token", fmt.Sprint(token))
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the store says %s", response.Status)
	}
	return nil
}

func lead(urls []string, store, name string) error {
	session := begin(urls, name)
	token, err := session.campaign("default/main")
	if err != nil {
		return err
	}
	fmt.Printf("%s leads with fencing token %d\n", name, token)
	for session.isValid() {
		if err := write(store, name, token); err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errEnded
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: lead.go STORE_URL NAME [QUORATE_URL...]")
		os.Exit(2)
	}
	store, name, urls := os.Args[1], os.Args[2], os.Args[3:]
	if len(urls) == 0 {
		urls = []string{"http://127.0.0.1:17400", "http://127.0.0.1:17401", "http://127.0.0.1:17402"}
	}
	for {
		fmt.Printf("%s leads no more: %v\n", name, lead(urls, store, name))
	}
}
