package conformance

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// gone waits for a watched key's deletion and tells how long it took from start.
func gone(t *testing.T, watch clientv3.WatchChan, start time.Time) time.Duration {
	t.Helper()
	for _, event := range collect(t, watch, 1) {
		want(t, "event", event.Type, clientv3.EventTypeDelete)
	}
	return time.Since(start)
}

func TestALeaseEndsOnTimeAndTakesItsKeysAtOnce(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	start := time.Now()
	grant := must(client.Grant(ctx, 2))(t)
	put := must(client.Put(ctx, "b", "1", clientv3.WithLease(grant.ID)))(t)
	must(client.Put(ctx, "a", "1", clientv3.WithLease(grant.ID)))(t)
	watch := client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(put.Header.Revision+2))
	events := collect(t, watch, 2)
	took := time.Since(start)
	if took < 2*time.Second || took > 4*time.Second {
		t.Fatalf("a lease of 2 s ended after %v", took)
	}
	want(t, "one revision", events[0].Kv.ModRevision, events[1].Kv.ModRevision)
	want(t, "in key order", string(events[0].Kv.Key)+string(events[1].Kv.Key), "ab")
	left := must(client.TimeToLive(ctx, grant.ID))(t)
	want(t, "time left of an ended lease", left.TTL, -1)
}

func TestKeepAliveKeepsAliveAndStopsKeepingWhenItStops(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	grant := must(client.Grant(ctx, 2))(t)
	must(client.Put(ctx, "k", "1", clientv3.WithLease(grant.ID)))(t)
	watch := client.Watch(ctx, "k")
	keeping, stop := context.WithCancel(ctx)
	answers := must(client.KeepAlive(keeping, grant.ID))(t)
	start := time.Now()
	for time.Since(start) < 5*time.Second {
		answer, open := <-answers
		if !open {
			t.Fatal("the keep-alive ended")
		}
		want(t, "granted again", answer.TTL, 2)
	}
	want(t, "alive", must(client.Get(ctx, "k"))(t).Count, 1)
	stop()
	if took := gone(t, watch, time.Now()); took > 5*time.Second {
		t.Fatalf("the lease outlived its keep-alive by %v", took)
	}
}

func TestRevokeListAndKeys(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	short := must(client.Grant(ctx, 100))(t)
	long := must(client.Grant(ctx, 1000))(t)
	for _, k := range []string{"x", "y"} {
		must(client.Put(ctx, k, "1", clientv3.WithLease(short.ID)))(t)
	}
	must(client.Put(ctx, "y", "2", clientv3.WithLease(long.ID)))(t)
	left := must(client.TimeToLive(ctx, short.ID, clientv3.WithAttachedKeys()))(t)
	want(t, "keys of the lease", len(left.Keys), 1)
	want(t, "granted", left.GrantedTTL, 100)
	list := must(client.Leases(ctx))(t)
	want(t, "first to expire", list.Leases[0].ID, short.ID)
	must(client.Revoke(ctx, short.ID))(t)
	want(t, "x is gone", must(client.Get(ctx, "x"))(t).Count, 0)
	want(t, "y stays", must(client.Get(ctx, "y"))(t).Count, 1)
	_, err := client.Revoke(ctx, short.ID)
	want(t, "twice", errors.Is(err, rpctypes.ErrLeaseNotFound), true)
	_, err = client.KeepAliveOnce(ctx, short.ID)
	want(t, "keeping a dead lease", errors.Is(err, rpctypes.ErrLeaseNotFound), true)
	raised := must(client.Grant(ctx, 1))(t)
	want(t, "shortest time to live", raised.TTL, 2)
}

func TestAThousandLeasesEndTogether(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	const n = 1000
	watch := client.Watch(ctx, "/l/", clientv3.WithPrefix(), clientv3.WithFilterPut())
	errs := make(chan error, 20)
	for worker := range 20 {
		go func() {
			for i := worker; i < n; i += 20 {
				grant, err := client.Grant(ctx, 3)
				if err == nil {
					_, err = client.Put(ctx, "/l/"+key(i), "1", clientv3.WithLease(grant.ID))
				}
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 20 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	collect(t, watch, n)
	if took := time.Since(start); took > 6*time.Second {
		t.Fatalf("the last of %d leases ended %v late", n, took-3*time.Second)
	}
}
