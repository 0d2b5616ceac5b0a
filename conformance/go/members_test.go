package conformance

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// change makes a change of membership; while a member has only just connected, the cluster is not healthy enough.
func change(t *testing.T, what string, make func(ctx context.Context) error) {
	t.Helper()
	eventually(t, what, func(ctx context.Context) bool {
		err := make(ctx)
		waits := errors.Is(err, rpctypes.ErrUnhealthy) || errors.Is(err, rpctypes.ErrMemberLearnerNotReady)
		if err != nil && !waits {
			t.Fatalf("%s: %v", what, err)
		}
		return err == nil
	})
}

// joins makes s a member that joins the cluster, and runs it.
func (c *cluster) joins(s *server) {
	var named []string
	for _, member := range append(c.servers, s) {
		named = append(named, member.named())
	}
	s.cluster = strings.Join(named, ",")
	s.extra = append(s.extra, "--initial-cluster-state", "existing")
	s.launch()
}

func TestALearnerJoinsIsPromotedAndAnotherGoes(t *testing.T) {
	c := newCluster(t)
	client, ctx := c.dial(), within(t)
	for i := range 300 {
		must(client.Put(ctx, key(i), "v"))(t)
	}
	eventually(t, "a peer URL is not taken twice", func(ctx context.Context) bool {
		_, err := client.MemberAdd(ctx, []string{"http://" + c.servers[0].peer})
		return errors.Is(err, rpctypes.ErrPeerURLExist)
	})
	_, err := client.MemberRemove(ctx, 4711)
	want(t, "nobody removed", errors.Is(err, rpctypes.ErrMemberNotFound), true)
	_, err = client.MemberPromote(ctx, c.servers[0].id(client))
	want(t, "a voter promoted", errors.Is(err, rpctypes.ErrMemberNotLearner), true)

	fourth := place(t, "m3")
	var added *clientv3.MemberAddResponse
	change(t, "add a learner", func(ctx context.Context) (err error) {
		added, err = client.MemberAddAsLearner(ctx, []string{"http://" + fourth.peer})
		return err
	})
	list := must(client.MemberList(ctx))(t)
	want(t, "members", len(list.Members), 4)
	for _, member := range list.Members {
		want(t, "is a learner", member.IsLearner, member.ID == added.Member.ID)
		want(t, "has started", member.Name != "", member.ID != added.Member.ID)
	}
	_, err = client.MemberPromote(ctx, added.Member.ID)
	want(t, "promoted before it is there", errors.Is(err, rpctypes.ErrMemberLearnerNotReady), true)

	c.joins(fourth)
	fourth.await()
	itself := fourth.dial()
	_, err = itself.Get(ctx, key(0))
	want(t, "a learner answers no linearizable read", err != nil, true)
	eventually(t, "a learner answers serializable reads", func(ctx context.Context) bool {
		got, err := itself.Get(ctx, "/registry/", clientv3.WithPrefix(), clientv3.WithSerializable())
		return err == nil && len(got.Kvs) == 300
	})
	status := must(client.Status(ctx, fourth.client))(t)
	want(t, "says that it is a learner", status.IsLearner, true)
	change(t, "promote it", func(ctx context.Context) error {
		_, err := client.MemberPromote(ctx, added.Member.ID)
		return err
	})
	eventually(t, "it is a voter", func(ctx context.Context) bool {
		got, err := itself.Get(ctx, key(0))
		return err == nil && got.Count == 1
	})

	gone := c.others(c.leader())[0]
	id := gone.id(client)
	change(t, "remove a member", func(ctx context.Context) error {
		_, err := client.MemberRemove(ctx, id)
		return err
	})
	select {
	case <-gone.finished:
	case <-time.After(patience):
		t.Fatal("the removed member goes on")
	}
	c.servers = append(c.others(gone), fourth)
	for _, s := range c.servers {
		must(s.dial().Put(ctx, "after", "v"))(t)
	}
	want(t, "members", len(must(client.MemberList(ctx))(t).Members), 3)
	// On its old data it must not come back.
	gone.launch()
	select {
	case <-gone.finished:
	case <-gone.ready:
		asking, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		_, err := gone.dial().Put(asking, "from outside", "v")
		want(t, "the removed member refuses a write", err != nil, true)
	case <-time.After(3 * time.Second):
	}
	c.alike()
}

// A member that lost its directory is removed, and a new one takes its place at the same address.
func TestALostMemberIsReplaced(t *testing.T) {
	c := newCluster(t)
	client, ctx := c.dial(), within(t)
	for i := range 300 {
		must(client.Put(ctx, key(i), "v"))(t)
	}
	lost := c.others(c.leader())[1]
	id := lost.id(client)
	lost.stop(syscall.SIGKILL)
	if err := os.RemoveAll(filepath.Join(lost.dir, "data")); err != nil {
		t.Fatal(err)
	}
	others := c.others(lost)
	client = dial(t, config(others[0].client, others[1].client))
	change(t, "remove it", func(ctx context.Context) error {
		_, err := client.MemberRemove(ctx, id)
		return err
	})
	change(t, "add its successor", func(ctx context.Context) error {
		_, err := client.MemberAdd(ctx, []string{"http://" + lost.peer})
		return err
	})
	lost.extra = append(lost.extra, "--initial-cluster-state", "existing")
	lost.start()
	want(t, "another id", lost.id(client) != id, true)
	got := must(lost.dial().Get(ctx, "/registry/", clientv3.WithPrefix(), clientv3.WithCountOnly()))(t)
	want(t, "keys", got.Count, 300)
	c.alike()
}

func TestLeadershipMovesWhereItIsTold(t *testing.T) {
	c := newCluster(t)
	ctx := within(t)
	client := c.dial()
	leader := c.leader()
	follower := c.others(leader)[0]
	_, err := follower.dial().MoveLeader(ctx, follower.id(client))
	want(t, "a follower cannot", errors.Is(err, rpctypes.ErrNotLeader), true)
	must(leader.dial().MoveLeader(ctx, follower.id(client)))(t)
	eventually(t, "it leads", func(ctx context.Context) bool {
		status, err := client.Status(ctx, leader.client)
		return err == nil && status.Leader == follower.id(client)
	})
}

func TestFollowersTakeEveryCall(t *testing.T) {
	c := newCluster(t)
	ctx := within(t)
	leader := c.leader()
	for i, s := range c.others(leader) {
		client := s.dial()
		lease := must(client.Grant(ctx, 100))(t)
		put := must(client.Put(ctx, "a", "1", clientv3.WithLease(lease.ID)))(t)
		txn := must(client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision("a"), "=", put.Header.Revision)).
			Then(clientv3.OpPut("b", "2"), clientv3.OpGet("a")).Commit())(t)
		want(t, "compared", txn.Succeeded, true)
		left := must(client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys()))(t)
		want(t, "keys of the lease", len(left.Keys), 1)
		must(client.KeepAliveOnce(ctx, lease.ID))(t)
		want(t, "leases", len(must(client.Leases(ctx))(t).Leases), 1)
		must(client.Revoke(ctx, lease.ID))(t)
		want(t, "gone with its lease", must(client.Get(ctx, "a"))(t).Count, 0)
		must(client.Delete(ctx, "b"))(t)
		must(client.Compact(ctx, put.Header.Revision))(t)
		_, err := client.Get(ctx, "a", clientv3.WithRev(put.Header.Revision-1))
		want(t, "compacted", errors.Is(err, rpctypes.ErrCompacted), true)
		_, err = client.KeepAliveOnce(ctx, lease.ID)
		want(t, "a dead lease", errors.Is(err, rpctypes.ErrLeaseNotFound), true)
		list := must(client.MemberList(ctx))(t)
		want(t, "members", len(list.Members), 3)
		alarms := must(client.AlarmList(ctx))(t)
		want(t, "alarms", len((*pb.AlarmResponse)(alarms).Alarms), 0)
		want(t, "revision", must(client.Get(ctx, "x"))(t).Header.Revision, int64(1+4*(i+1)))
	}
	c.alike()
}

func TestAFollowerKeepsALeaseAliveAndSeesItEnd(t *testing.T) {
	c := newCluster(t)
	ctx := within(t)
	leader := c.leader()
	followers := c.others(leader)
	client, other := followers[0].dial(), followers[1].dial()
	lease := must(client.Grant(ctx, 2))(t)
	put := must(client.Put(ctx, "k", "v", clientv3.WithLease(lease.ID)))(t)
	// The other member may hear of the put a moment later.
	watch := other.Watch(ctx, "k", clientv3.WithRev(put.Header.Revision+1))
	keeping, stop := context.WithCancel(ctx)
	answers := must(client.KeepAlive(keeping, lease.ID))(t)
	begun := time.Now()
	for time.Since(begun) < 5*time.Second {
		answer, open := <-answers
		if !open {
			t.Fatal("the keep-alive ended")
		}
		want(t, "granted again", answer.TTL, 2)
	}
	want(t, "alive", must(other.Get(ctx, "k"))(t).Count, 1)
	stop()
	if took := gone(t, watch, time.Now()); took > 6*time.Second {
		t.Fatalf("the lease outlived its keep-alive by %v", took)
	}
}

// Two of three are gone: who asks for a leader is told that there is none.
func TestWithoutALeader(t *testing.T) {
	c := newCluster(t)
	ctx := within(t)
	stays, others := c.servers[0], c.servers[1:]
	client := stays.dial()
	must(client.Put(ctx, "k", "v"))(t)
	led := clientv3.WithRequireLeader(ctx)
	watch := client.Watch(led, "k", clientv3.WithCreatedNotify())
	want(t, "created", (<-watch).Created, true)
	patient := client.Watch(ctx, "k", clientv3.WithCreatedNotify())
	want(t, "created", (<-patient).Created, true)
	for _, s := range others {
		s.stop(syscall.SIGKILL)
	}
	deadline := time.After(patience)
	for ended := false; !ended; {
		select {
		case response, open := <-watch:
			ended = !open || errors.Is(response.Err(), rpctypes.ErrNoLeader)
		case <-deadline:
			t.Fatal("the watch that requires a leader goes on without one")
		}
	}
	asking, cancel := context.WithTimeout(led, 3*time.Second)
	defer cancel()
	_, err := client.Put(asking, "k", "w")
	want(t, "no leader", errors.Is(err, rpctypes.ErrNoLeader), true)
	got := must(client.Get(ctx, "k", clientv3.WithSerializable()))(t)
	want(t, "a serializable read", string(got.Kvs[0].Value), "v")
	for _, s := range others {
		s.launch()
	}
	for _, s := range others {
		s.await()
	}
	eventually(t, "writes again", func(ctx context.Context) bool {
		_, err := client.Put(ctx, "k", "x")
		return err == nil
	})
	want(t, "the patient watch goes on", string(collect(t, patient, 1)[0].Kv.Value), "x")
}
