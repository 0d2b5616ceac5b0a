package conformance

import (
	"context"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// A scheduler's lock: a transaction that creates the key under a lease, or tells who holds it.
func TestATransactionWithALeaseIsALock(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	take := func(holder string) (clientv3.LeaseID, *clientv3.TxnResponse) {
		grant := must(client.Grant(ctx, 60))(t)
		response := must(client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision("/cron/lock/job9"), "=", 0)).
			Then(clientv3.OpPut("/cron/lock/job9", holder, clientv3.WithLease(grant.ID))).
			Else(clientv3.OpGet("/cron/lock/job9")).Commit())(t)
		return grant.ID, response
	}
	lease, first := take("one")
	want(t, "first", first.Succeeded, true)
	_, second := take("two")
	want(t, "second", second.Succeeded, false)
	want(t, "holder", string(second.Responses[0].GetResponseRange().Kvs[0].Value), "one")
	must(client.Revoke(ctx, lease))(t)
	_, third := take("three")
	want(t, "after the release", third.Succeeded, true)
}

func TestAMutexAdmitsOneAtATime(t *testing.T) {
	server := newServer(t)
	ctx := within(t)
	var group sync.WaitGroup
	inside, most, entered := 0, 0, 0
	var guard sync.Mutex
	for range 8 {
		client := server.dial()
		group.Add(1)
		go func() {
			defer group.Done()
			session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
			if err != nil {
				t.Error(err)
				return
			}
			defer session.Close()
			for range 5 {
				mutex := concurrency.NewMutex(session, "/cron/lock/mutex")
				if err := mutex.Lock(ctx); err != nil {
					t.Error(err)
					return
				}
				guard.Lock()
				inside++
				entered++
				most = max(most, inside)
				guard.Unlock()
				guard.Lock()
				inside--
				guard.Unlock()
				if err := mutex.Unlock(ctx); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	group.Wait()
	want(t, "holders at once", most, 1)
	want(t, "turns", entered, 40)
}

func TestAnElectionHasOneLeaderAndThenTheNext(t *testing.T) {
	server := newServer(t)
	ctx := within(t)
	one := must(concurrency.NewSession(server.dial()))(t)
	two := must(concurrency.NewSession(server.dial()))(t)
	first, second := concurrency.NewElection(one, "/e"), concurrency.NewElection(two, "/e")
	if err := first.Campaign(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	won := make(chan error, 1)
	go func() { won <- second.Campaign(ctx, "two") }()
	leader := must(second.Leader(ctx))(t)
	want(t, "leader", string(leader.Kvs[0].Value), "one")
	one.Close()
	if err := <-won; err != nil {
		t.Fatal(err)
	}
	leader = must(second.Leader(ctx))(t)
	want(t, "next leader", string(leader.Kvs[0].Value), "two")
}

func TestSoftwareTransactionsDoNotLoseUpdates(t *testing.T) {
	server := newServer(t)
	ctx := within(t)
	var group sync.WaitGroup
	for range 6 {
		client := server.dial()
		group.Add(1)
		go func() {
			defer group.Done()
			for range 20 {
				_, err := concurrency.NewSTM(client, func(stm concurrency.STM) error {
					stm.Put("count", stm.Get("count")+"x")
					return nil
				}, concurrency.WithAbortContext(ctx))
				if err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	group.Wait()
	got := must(server.dial().Get(context.Background(), "count"))(t)
	want(t, "updates", len(got.Kvs[0].Value), 120)
}
