package conformance

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestEverythingIsThereAfterARestart(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			server := newServer(t)
			client, ctx := server.dial(), within(t)
			lease := must(client.Grant(ctx, 600))(t)
			for i := range 200 {
				must(client.Put(ctx, key(i), fmt.Sprint(i), clientv3.WithLease(lease.ID)))(t)
			}
			must(client.Delete(ctx, key(7)))(t)
			must(client.Compact(ctx, 100))(t)
			before := must(client.HashKV(ctx, server.client, 0))(t)
			server.restart(signal)
			after := must(client.HashKV(ctx, server.client, 0))(t)
			want(t, "hash", after.Hash, before.Hash)
			want(t, "revision", after.Header.Revision, before.Header.Revision)
			want(t, "watermark", after.CompactRevision, int64(100))
			left := must(client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys()))(t)
			want(t, "keys of the lease", len(left.Keys), 199)
			history := collect(t, client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(100)), 103)
			want(t, "last event", history[102].Type, clientv3.EventTypeDelete)
		})
	}
}

// Writers go on while the server is killed; whatever was acknowledged must be there at its revision.
func TestNothingAcknowledgedIsLostByKill(t *testing.T) {
	server := newServer(t)
	client := server.dial()
	type ack struct {
		key      string
		revision int64
	}
	for round := range 5 {
		ctx, stop := context.WithCancel(context.Background())
		var mutex sync.Mutex
		var acks []ack
		var group sync.WaitGroup
		enough := make(chan struct{})
		var once sync.Once
		for worker := range 16 {
			group.Add(1)
			go func() {
				defer group.Done()
				for i := 0; ctx.Err() == nil; i++ {
					k := fmt.Sprintf("/r%d/w%d/%d", round, worker, i)
					put, err := client.Put(ctx, k, k)
					if err != nil {
						return
					}
					mutex.Lock()
					acks = append(acks, ack{k, put.Header.Revision})
					if len(acks) == 1000 {
						once.Do(func() { close(enough) })
					}
					mutex.Unlock()
				}
			}()
		}
		select {
		case <-enough:
		case <-time.After(patience):
			t.Fatal("writes do not get through")
		}
		server.stop(syscall.SIGKILL)
		stop()
		group.Wait()
		server.start()
		all := must(client.Get(within(t), fmt.Sprintf("/r%d/", round), clientv3.WithPrefix()))(t)
		found := map[string]int64{}
		for _, kv := range all.Kvs {
			want(t, "value", string(kv.Value), string(kv.Key))
			found[string(kv.Key)] = kv.ModRevision
		}
		for _, a := range acks {
			want(t, "revision of "+a.key, found[a.key], a.revision)
		}
	}
}

func TestAWatchResumesOverARestart(t *testing.T) {
	server := newServer(t)
	client, ctx := server.dial(), within(t)
	watch := client.Watch(ctx, "", clientv3.WithPrefix())
	for i := range 50 {
		must(client.Put(ctx, key(i), "v"))(t)
	}
	events := collect(t, watch, 50)
	server.restart(syscall.SIGKILL)
	for i := range 50 {
		must(client.Put(ctx, key(i), "w"))(t)
	}
	events = append(events, collect(t, watch, 50)...)
	for i, event := range events {
		want(t, "revision", event.Kv.ModRevision, int64(2+i))
	}
}
