package conformance

import (
	"context"
	"fmt"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

const (
	objects  = 10_000
	watchers = 100
	writers  = 32
)

// The API server's way of using the store: optimistic writes, paged lists at a revision, watches with the previous
// value and progress.
func TestTheAPIServersPattern(t *testing.T) {
	server := newServer(t, "--watch-progress-notify-interval=1s")
	client := must(kubernetes.New(server.config()))(t)
	t.Cleanup(func() { client.Close() })
	ctx := within(t)

	forAll(t, func(i int) error {
		response, err := client.OptimisticPut(ctx, key(i), fmt.Appendf(nil, "object %d", i), 0, kubernetes.PutOptions{})
		if err == nil && !response.Succeeded {
			err = fmt.Errorf("creating %s failed", key(i))
		}
		return err
	})
	count := must(client.Count(ctx, "/registry/objects/", kubernetes.CountOptions{}))(t)
	want(t, "objects", count, int64(objects))

	list := page(t, ctx, client, 500)
	revision := list[0].ModRevision
	for _, kv := range list {
		revision = max(revision, kv.ModRevision)
	}
	want(t, "listed", len(list), objects)

	var watches []clientv3.WatchChan
	for range watchers {
		watches = append(watches, client.Watch(clientv3.WithRequireLeader(ctx), "/registry/objects/",
			clientv3.WithPrefix(), clientv3.WithRev(revision+1), clientv3.WithPrevKV(), clientv3.WithProgressNotify()))
	}

	const updated = 1_000
	for i := range updated {
		old := list[i]
		stale := must(client.OptimisticPut(ctx, string(old.Key), []byte("stale"), old.ModRevision-1,
			kubernetes.PutOptions{GetOnFailure: true}))(t)
		want(t, "a stale update", stale.Succeeded, false)
		want(t, "what stands there", stale.KV.ModRevision, old.ModRevision)
		if i%2 == 0 {
			fresh := must(client.OptimisticPut(ctx, string(old.Key), []byte("new"), old.ModRevision, kubernetes.PutOptions{}))(t)
			want(t, "an update", fresh.Succeeded, true)
		} else {
			deleted := must(client.OptimisticDelete(ctx, string(old.Key), old.ModRevision, kubernetes.DeleteOptions{}))(t)
			want(t, "a deletion", deleted.Succeeded, true)
		}
	}
	for _, watch := range watches {
		for i, event := range collect(t, watch, updated) {
			want(t, "revision", event.Kv.ModRevision, revision+1+int64(i))
			want(t, "previous value", string(event.PrevKv.Value), string(list[i].Value))
			want(t, "kind", event.Type == clientv3.EventTypePut, i%2 == 0)
		}
	}
	for response := range watches[0] {
		if response.IsProgressNotify() {
			want(t, "progress", response.Header.Revision, revision+updated)
			break
		}
	}
	then := must(client.List(ctx, "/registry/objects/", kubernetes.ListOptions{Revision: revision, Limit: 10}))(t)
	want(t, "count at the old revision", then.Count, int64(objects))
	want(t, "value at the old revision", string(then.Kvs[0].Value), string(list[0].Value))
}

type kv = struct {
	Key, Value  []byte
	ModRevision int64
}

// page lists everything in pages at the revision of the first.
func page(t *testing.T, ctx context.Context, client *kubernetes.Client, limit int64) []kv {
	t.Helper()
	var all []kv
	options := kubernetes.ListOptions{Limit: limit}
	for {
		list := must(client.List(ctx, "/registry/objects/", options))(t)
		for _, item := range list.Kvs {
			all = append(all, kv{item.Key, item.Value, item.ModRevision})
		}
		want(t, "count that remains", list.Count, int64(objects-len(all)+len(list.Kvs)))
		if list.Count == int64(len(list.Kvs)) {
			return all
		}
		if options.Revision == 0 {
			options.Revision = list.Revision
		}
		options.Continue = string(list.Kvs[len(list.Kvs)-1].Key) + "\x00"
	}
}

func forAll(t *testing.T, do func(i int) error) {
	t.Helper()
	var group sync.WaitGroup
	for worker := range writers {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := worker; i < objects; i += writers {
				if err := do(i); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}
