package conformance

import (
	"context"
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestWatchFromARevision(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	must(client.Put(ctx, "/cron/jobs/job7", "first"))(t)
	got := must(client.Get(ctx, "/cron/jobs/job7"))(t)
	watch := client.Watch(ctx, "/cron/jobs/job7", clientv3.WithRev(got.Header.Revision+1))
	for range 3 {
		must(client.Put(ctx, "/cron/jobs/job7", "again"))(t)
		must(client.Delete(ctx, "/cron/jobs/job7"))(t)
	}
	events := collect(t, watch, 6)
	for i, event := range events {
		want(t, "revision", event.Kv.ModRevision, int64(3+i))
		want(t, "put", event.Type == clientv3.EventTypePut, i%2 == 0)
		if event.Type == clientv3.EventTypePut {
			want(t, "created anew", event.IsCreate(), i > 0)
		}
	}
}

func TestWatchReplaysHistoryAndGoesOnLive(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	const n = 3000
	done := make(chan error, 1)
	go func() {
		for i := range n {
			if _, err := client.Put(ctx, key(i%50), "v"); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	var watches []clientv3.WatchChan
	for range 20 {
		watches = append(watches, client.Watch(ctx, "/registry/", clientv3.WithPrefix(), clientv3.WithRev(2)))
	}
	for _, watch := range watches {
		for i, event := range collect(t, watch, n) {
			want(t, "revision", event.Kv.ModRevision, int64(2+i))
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestATransactionArrivesWhole(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	watch := client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithPrevKV())
	must(client.Put(ctx, "b", "old"))(t)
	must(client.Txn(ctx).Then(clientv3.OpPut("a", "1"), clientv3.OpDelete("b"), clientv3.OpPut("c", "3")).Commit())(t)
	first := <-watch
	want(t, "the put alone", len(first.Events), 1)
	second := <-watch
	want(t, "the transaction", len(second.Events), 3)
	want(t, "previous value of the deleted key", string(second.Events[1].PrevKv.Value), "old")
}

func TestFiltersAndFragments(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	deletes := client.Watch(ctx, "a", clientv3.WithFilterPut())
	pieces := client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithFragment(), clientv3.WithRev(2))
	big := make([]byte, 400_000)
	for i := range 12 {
		must(client.Put(ctx, key(i), string(big)))(t)
	}
	must(client.Put(ctx, "a", "1"))(t)
	must(client.Delete(ctx, "a"))(t)
	want(t, "filtered", collect(t, deletes, 1)[0].Type, clientv3.EventTypeDelete)
	want(t, "all pieces", len(collect(t, pieces, 14)), 14)
}

func TestACompactedWatchIsToldSo(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	for range 10 {
		must(client.Put(ctx, "a", "x"))(t)
	}
	must(client.Compact(ctx, 9))(t)
	response := <-client.Watch(ctx, "a", clientv3.WithRev(3))
	want(t, "compacted", errors.Is(response.Err(), rpctypes.ErrCompacted), true)
	want(t, "watermark", response.CompactRevision, 9)
	collect(t, client.Watch(ctx, "a", clientv3.WithRev(9)), 3)
}

func TestProgressTellsTheTruth(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	watch := client.Watch(clientv3.WithRequireLeader(ctx), "a", clientv3.WithCreatedNotify())
	want(t, "created", (<-watch).Created, true)
	for range 5 {
		must(client.Put(ctx, "other", "x"))(t)
	}
	if err := client.RequestProgress(clientv3.WithRequireLeader(ctx)); err != nil {
		t.Fatal(err)
	}
	for {
		response := <-watch
		if response.IsProgressNotify() {
			want(t, "revision", response.Header.Revision, 6)
			return
		}
	}
}

func TestPeriodicProgress(t *testing.T) {
	client, ctx := newServer(t, "--watch-progress-notify-interval=200ms").dial(), within(t)
	watch := client.Watch(ctx, "a", clientv3.WithProgressNotify())
	must(client.Put(ctx, "other", "x"))(t)
	for response := range watch {
		if response.IsProgressNotify() && response.Header.Revision == 2 {
			return
		}
	}
	t.Fatal("the watch ended")
}

func TestCancellingAWatchLeavesTheOthers(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	short, cancel := context.WithCancel(ctx)
	gone := client.Watch(short, "a")
	stays := client.Watch(ctx, "a", clientv3.WithRev(2))
	cancel()
	for range gone {
	}
	must(client.Put(ctx, "a", "1"))(t)
	want(t, "the other still gets it", len(collect(t, stays, 1)), 1)
}
