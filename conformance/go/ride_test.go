package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// acknowledged are writes that were answered, by key.
type acknowledged struct {
	sync.Mutex
	revisions map[string]int64
	count     atomic.Int64
}

// write puts new keys until the context ends. A put that is not answered may have been done, and is not repeated.
func (a *acknowledged) write(ctx context.Context, client *clientv3.Client, worker int) {
	for i := 0; ctx.Err() == nil; i++ {
		k := fmt.Sprintf("/w%d/%06d", worker, i)
		asking, cancel := context.WithTimeout(ctx, time.Second)
		put, err := client.Put(asking, k, k)
		cancel()
		if err != nil {
			continue
		}
		a.Lock()
		a.revisions[k] = put.Header.Revision
		a.Unlock()
		a.count.Add(1)
	}
}

// more returns after so many more.
func (a *acknowledged) more(t *testing.T, n int64) {
	t.Helper()
	from := a.count.Load()
	eventually(t, "more writes", func(context.Context) bool { return a.count.Load() >= from+n })
}

// A watcher on each member and one on any, and leases kept through each, while all write.
func TestClientsRideThrough(t *testing.T) {
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			c := newCluster(t)
			// A rolling restart of etcd with watchers on it takes half a minute.
			ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
			t.Cleanup(cancel)
			any := c.dial()
			clients := append(c.dialEach(), any)
			var watches []clientv3.WatchChan
			var leases []clientv3.LeaseID
			for i, client := range clients {
				watches = append(watches, client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(1)))
				lease := must(client.Grant(ctx, 10))(t)
				must(client.Put(ctx, fmt.Sprintf("/leased/%d", i), "v", clientv3.WithLease(lease.ID)))(t)
				leases = append(leases, lease.ID)
				answers := must(client.KeepAlive(ctx, lease.ID))(t)
				go func() {
					for range answers {
					}
				}()
			}
			acks := &acknowledged{revisions: map[string]int64{}}
			writing, stop := context.WithCancel(ctx)
			var group sync.WaitGroup
			for worker := range 4 {
				group.Go(func() { acks.write(writing, clients[worker], worker) })
			}
			acks.more(t, 200)
			fault.do(c)
			acks.more(t, 200)
			stop()
			group.Wait()
			last := must(any.Put(ctx, "/last", "v"))(t).Header.Revision
			for i, client := range clients {
				all := must(client.Get(ctx, "/w", clientv3.WithPrefix()))(t)
				found := map[string]int64{}
				for _, kv := range all.Kvs {
					found[string(kv.Key)] = kv.ModRevision
				}
				for k, revision := range acks.revisions {
					want(t, fmt.Sprintf("revision of %s at %d", k, i), found[k], revision)
				}
			}
			// Each revision is one put: none may be missing, none may come twice.
			for i, watch := range watches {
				for n, event := range collect(t, watch, int(last-1)) {
					want(t, fmt.Sprintf("revision %d of watcher %d", n, i), event.Kv.ModRevision, int64(2+n))
				}
			}
			for i, lease := range leases {
				left := must(any.TimeToLive(ctx, lease, clientv3.WithAttachedKeys()))(t)
				want(t, fmt.Sprintf("keys of lease %d", i), len(left.Keys), 1)
			}
			c.alike()
		})
	}
}

// Contenders on each member add one to a number that only the holder may touch, while the leader is killed.
func TestALockHoldsOverALeaderKill(t *testing.T) {
	c := newCluster(t)
	ctx := within(t)
	var inside, entered atomic.Int64
	working, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	for _, s := range c.servers {
		client := dial(t, clientv3.Config{Endpoints: append([]string{s.client}, c.endpoints()...), Logger: config().Logger})
		group.Go(func() {
			for working.Err() == nil {
				session, err := concurrency.NewSession(client, concurrency.WithTTL(10), concurrency.WithContext(working))
				if err != nil {
					continue
				}
				mutex := concurrency.NewMutex(session, "/lock")
				if mutex.Lock(working) == nil {
					if inside.Add(1) != 1 {
						t.Error("two hold the lock")
					}
					entered.Add(1)
					inside.Add(-1)
				}
				closing, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				_ = mutex.Unlock(closing)
				_, _ = client.Revoke(closing, session.Lease())
				session.Orphan()
				cancel()
			}
		})
	}
	holders := func(n int64) {
		from := entered.Load()
		eventually(t, "more holders", func(context.Context) bool { return entered.Load() >= from+n })
	}
	holders(20)
	faults[0].do(c)
	holders(20)
	stop()
	group.Wait()
}

// What one member acknowledged, the others read, while leadership moves.
func TestAFollowerReadsWhatWasWritten(t *testing.T) {
	c := newCluster(t)
	ctx := within(t)
	clients := c.dialEach()
	for i := range 300 {
		value := fmt.Sprint(i)
		// Without a leader for a moment it may not be answered; then nothing is claimed.
		if _, err := clients[i%3].Put(ctx, "k", value); err != nil {
			t.Log(err)
			continue
		}
		for other := range clients {
			got, err := clients[other].Get(ctx, "k")
			if err != nil {
				t.Log(err)
				continue
			}
			want(t, fmt.Sprintf("member %d after a put at %d", other, i%3), string(got.Kvs[0].Value), value)
		}
		if i%100 == 50 {
			leader := c.leader()
			target := c.others(leader)[0]
			must(leader.dial().MoveLeader(ctx, target.id(clients[0])))(t)
		}
	}
	_, err := clients[0].Get(ctx, "k", clientv3.WithRev(1<<40))
	want(t, "a revision to come is refused", err != nil && !errors.Is(err, context.DeadlineExceeded), true)
}
