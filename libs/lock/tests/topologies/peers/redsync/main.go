// Command peer locks with redsync on the servers that it is given: `peer [-fail-fast] URL...`.
//
// Each line that comes in is a JSON list, what to do and with what; each line that goes out is what came of it.
// Whatever is not said here is as redsync and go-redis have it, and a lock is tried for once.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/go-redsync/redsync/v4"
	redsyncredis "github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

type peer struct {
	redsync  *redsync.Redsync
	failFast bool
	mutex    *redsync.Mutex
	cancel   context.CancelFunc
	begun    chan error
}

func (p *peer) act(what string, words []any) (any, error) {
	switch what {
	case "begin":
		p.begin(words[0].(string), time.Duration(words[1].(float64))*time.Millisecond)
		return true, nil
	case "cancel":
		p.cancel()
		return true, nil
	case "outcome":
		return offers(p.mutex), <-p.begun
	case "release":
		return p.mutex.Unlock()
	}
	return nil, fmt.Errorf("there is no %q", what)
}

func (p *peer) begin(name string, ttl time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	mutex := p.redsync.NewMutex(name, redsync.WithExpiry(ttl), redsync.WithFailFast(p.failFast))
	begun := make(chan error, 1)
	p.mutex, p.cancel, p.begun = mutex, cancel, begun
	go func() { begun <- mutex.TryLockContext(ctx) }()
}

// What whoever holds a mutex can ask it.
func offers(mutex *redsync.Mutex) []string {
	of := reflect.TypeOf(mutex)
	names := make([]string, of.NumMethod())
	for i := range names {
		names[i] = of.Method(i).Name
	}
	return names
}

func connect(urls []string) ([]redsyncredis.Pool, error) {
	pools := make([]redsyncredis.Pool, len(urls))
	for i, url := range urls {
		options, err := redis.ParseURL(url)
		if err != nil {
			return nil, err
		}
		pools[i] = goredis.NewPool(redis.NewClient(options))
	}
	return pools, nil
}

func main() {
	failFast := flag.Bool("fail-fast", false, "count as soon as a majority has answered")
	flag.Parse()
	pools, err := connect(flag.Args())
	if err != nil {
		panic(err)
	}
	p := &peer{redsync: redsync.New(pools...), failFast: *failFast}
	out := json.NewEncoder(os.Stdout)
	say := func(key string, value any) {
		if err := out.Encode(map[string]any{key: value}); err != nil {
			panic(err)
		}
	}
	say("ready", true)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var words []any
		if err := json.Unmarshal(lines.Bytes(), &words); err != nil {
			panic(err)
		}
		if result, err := p.act(words[0].(string), words[1:]); err != nil {
			say("failed", err.Error())
		} else {
			say("result", result)
		}
	}
}
