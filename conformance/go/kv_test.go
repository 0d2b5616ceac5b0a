package conformance

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestOpAndDoReplaceTheirMethods(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	put := must(client.Do(ctx, clientv3.OpPut("/cron/jobs/job8", "first")))(t)
	want(t, "revision of the first put", put.Put().Header.Revision, 2)
	get := must(client.Do(ctx, clientv3.OpGet("/cron/jobs/job8")))(t)
	want(t, "value", string(get.Get().Kvs[0].Value), "first")
	want(t, "mod revision", get.Get().Kvs[0].ModRevision, 2)
	again := must(client.Do(ctx, clientv3.OpPut("/cron/jobs/job8", "second", clientv3.WithPrevKV())))(t)
	want(t, "previous value", string(again.Put().PrevKv.Value), "first")
	txn := must(client.Do(ctx, clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("a", "1"), clientv3.OpGet("a")}, nil)))(t)
	want(t, "a transaction reads its own writes", string(txn.Txn().Responses[1].GetResponseRange().Kvs[0].Value), "1")
	del := must(client.Do(ctx, clientv3.OpDelete("/cron/jobs/", clientv3.WithPrefix())))(t)
	want(t, "deleted", del.Del().Deleted, 1)
}

func TestRangesBySortLimitRevisionAndCount(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	for i := range 20 {
		must(client.Put(ctx, key(19-i), strings.Repeat("v", i)))(t)
	}
	first := must(client.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithLimit(3)))(t)
	want(t, "count", first.Count, 20)
	want(t, "more", first.More, true)
	want(t, "first key", string(first.Kvs[0].Key), key(0))
	last := must(client.Get(ctx, "/registry/", clientv3.WithLastCreate()...))(t)
	want(t, "key created last", string(last.Kvs[0].Key), key(0))
	old := must(client.Get(ctx, "/registry/", clientv3.WithPrefix(), clientv3.WithRev(6), clientv3.WithCountOnly()))(t)
	want(t, "count at revision 6", old.Count, 5)
	want(t, "header revision", old.Header.Revision, 21)
	from := must(client.Get(ctx, key(17), clientv3.WithFromKey(), clientv3.WithKeysOnly()))(t)
	want(t, "keys from 17 on", len(from.Kvs), 3)
	want(t, "no value", len(from.Kvs[0].Value), 0)
}

func TestARangeStreamMergesToTheRange(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	for i := range 500 {
		must(client.Put(ctx, key(i), strings.Repeat("v", 3000)))(t)
	}
	stream := must(client.GetStream(ctx, "/registry/", clientv3.WithPrefix()))(t)
	merged := must(clientv3.GetStreamToGetResponse(stream))(t)
	whole := must(client.Get(ctx, "/registry/", clientv3.WithPrefix()))(t)
	want(t, "keys", len(merged.Kvs), len(whole.Kvs))
	want(t, "count", merged.Count, whole.Count)
	want(t, "revision", merged.Header.Revision, whole.Header.Revision)
	for i := range whole.Kvs {
		want(t, "key", string(merged.Kvs[i].Key), string(whole.Kvs[i].Key))
	}
}

func TestCompactionHidesThePast(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	for range 10 {
		must(client.Put(ctx, "a", "x"))(t)
	}
	must(client.Compact(ctx, 8, clientv3.WithCompactPhysical()))(t)
	_, err := client.Get(ctx, "a", clientv3.WithRev(7))
	want(t, "reading below", errors.Is(err, rpctypes.ErrCompacted), true)
	at := must(client.Get(ctx, "a", clientv3.WithRev(8)))(t)
	want(t, "version at the watermark", at.Kvs[0].Version, 7)
	_, err = client.Compact(ctx, 8)
	want(t, "compacting again", errors.Is(err, rpctypes.ErrCompacted), true)
	_, err = client.Compact(ctx, 80)
	want(t, "compacting the future", errors.Is(err, rpctypes.ErrFutureRev), true)
}

func TestErrorsAreEtcdsOwn(t *testing.T) {
	client, ctx := newServer(t).dial(), within(t)
	_, err := client.Put(ctx, "", "x")
	want(t, "empty key", errors.Is(err, rpctypes.ErrEmptyKey), true)
	_, err = client.Put(ctx, "a", "x", clientv3.WithLease(77))
	want(t, "unknown lease", errors.Is(err, rpctypes.ErrLeaseNotFound), true)
	_, err = client.Put(ctx, "nowhere", "", clientv3.WithIgnoreValue())
	want(t, "ignored value of a missing key", errors.Is(err, rpctypes.ErrKeyNotFound), true)
	_, err = client.Txn(ctx).Then(clientv3.OpPut("a", "1"), clientv3.OpPut("a", "2")).Commit()
	want(t, "one key twice", errors.Is(err, rpctypes.ErrDuplicateKey), true)
	_, err = client.Get(ctx, "a", clientv3.WithRev(99))
	want(t, "future revision", errors.Is(err, rpctypes.ErrFutureRev), true)
	_, err = client.Put(ctx, "big", strings.Repeat("x", 1_600_000))
	want(t, "too large", errors.Is(err, rpctypes.ErrRequestTooLarge), true)
	ops := make([]clientv3.Op, 129)
	for i := range ops {
		ops[i] = clientv3.OpGet("a")
	}
	_, err = client.Txn(ctx).Then(ops...).Commit()
	want(t, "too many operations", errors.Is(err, rpctypes.ErrTooManyOps), true)
}

func TestMaintenanceAnswers(t *testing.T) {
	server := newServer(t)
	client, ctx := server.dial(), within(t)
	must(client.Put(ctx, "a", "1"))(t)
	status := must(client.Status(ctx, server.client))(t)
	want(t, "leader", status.Leader, status.Header.MemberId)
	members := must(client.MemberList(ctx))(t)
	want(t, "members", len(members.Members), 1)
	want(t, "name", members.Members[0].Name, "one")
	want(t, "client URL", members.Members[0].ClientURLs[0], "http://"+server.client)
	hash := must(client.HashKV(ctx, server.client, 0))(t)
	want(t, "never compacted", hash.CompactRevision, -1)
	must(client.Defragment(ctx, server.client))(t)
	want(t, "alarms", len(must(client.AlarmList(ctx))(t).Alarms), 0)
}
