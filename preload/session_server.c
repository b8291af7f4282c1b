/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server of a session: answers.
 *
 * Letters in the segment's header tell which streams to look at.  What is announced there is kept
 * in a table by the connection's key, so that a connection finds its announcement, or that there is
 * none, at once, however many there are.
 *
 * Invariant: of each stream whose offer has changed before the client raised `letters` to n, a
 * server that has read n letters has seen the change, or a later one.
 */
#include <errno.h>
#include <string.h>

#include "core/thread.h"
#include "preload/session_parts.h"

enum {
	BUCKETS = 4096,
	STREAMS = SHMIPC_STREAM_COUNT_MAX,
};

/* An announcement that we know of, by session and stream.  Private memory: what the segment says is
 * asked again before it is answered. */
struct announced {
	uint32_t next; /* in its bucket: place + 1, 0: the last one */
	uint32_t hash; /* of its key, as it was then */
	uint32_t offer;
	bool known;
};

static struct announced announcements[SHIM_SESSION_MAX * STREAMS];
static uint32_t buckets[BUCKETS];

static uint32_t hash_of(const uint8_t *key)
{
	uint32_t hash; /* the key is a digest: each part of it is as good as the others */

	memcpy(&hash, key, sizeof(hash));
	return hash;
}

static void forget(uint32_t place)
{
	struct announced *one = &announcements[place];
	uint32_t *at = &buckets[one->hash % BUCKETS];

	if (!one->known)
		return;
	while (*at && *at != place + 1)
		at = &announcements[*at - 1].next;
	if (*at)
		*at = one->next;
	one->known = false;
}

static void learn(uint32_t place, const struct shmipc_stream_control *control, uint32_t offer)
{
	struct announced *one = &announcements[place];
	uint32_t *bucket;

	forget(place);
	one->hash = hash_of(control->key);
	one->offer = offer;
	one->known = true;
	bucket = &buckets[one->hash % BUCKETS];
	one->next = *bucket;
	*bucket = place + 1;
}

void shim_session_server_forget(int index)
{
	for (uint32_t i = 0; i < shim_session_at(index)->segment.stream_count; i++)
		forget((uint32_t)index * STREAMS + i);
}

/* An offer that was withdrawn before we saw it would keep its stream out of use: we shall not
 * answer it. */
static void confirm_withdrawal(struct shmipc_stream_control *control, uint32_t offer)
{
	uint32_t generation = offer >> 8;

	if ((offer & 0xff) == SHMIPC_OFFER_CLOSED &&
	    atomic_load(&control->answer) >> 8 != generation)
		atomic_store(&control->answer, shim_session_word(generation, SHMIPC_ANSWER_CLOSED));
}

static void look_at(int index, uint32_t stream)
{
	const struct shim_session *session = shim_session_at(index);
	uint32_t place = (uint32_t)index * STREAMS + stream, offer;
	struct shmipc_stream_control *control;

	if (stream >= session->segment.stream_count)
		return;
	control = shmipc_segment_stream(&session->segment, stream);
	offer = atomic_load_explicit(&control->offer, memory_order_acquire);
	if ((offer & 0xff) == SHMIPC_OFFER_OPEN) {
		learn(place, control, offer);
	} else {
		forget(place);
		confirm_withdrawal(control, offer);
	}
}

/* Letters that are overwritten while we read are those of a client that is far ahead. */
static bool read_each(int index, uint32_t written)
{
	const struct shim_session *session = shim_session_at(index);
	const struct shmipc_segment_header *header = session->segment.header;
	uint32_t count = written - session->letters;

	for (uint32_t i = 0; i < count && count < SHMIPC_LETTERS_ROOM; i++)
		look_at(index,
			atomic_load_explicit(
				&header->letter[(session->letters + i) % SHMIPC_LETTERS_ROOM],
				memory_order_relaxed));
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&header->letters, memory_order_relaxed) - session->letters <
	       SHMIPC_LETTERS_ROOM;
}

static void read_letters(int index)
{
	struct shim_session *session = shim_session_at(index);
	/* [letters:acq] pairs with [letters:rel] in session_client.c */
	uint32_t written = atomic_load_explicit(&session->segment.header->letters,
						memory_order_acquire);

	if (written == session->letters)
		return;
	if (!read_each(index, written))
		for (uint32_t i = 0; i < session->segment.stream_count; i++)
			look_at(index, i);
	session->letters = written;
}

static bool answer_at(uint32_t place, const struct shim_session_claim *claim)
{
	const struct announced *one = &announcements[place];
	struct shim_session *session = shim_session_at((int)(place / STREAMS));
	struct shmipc_stream_control *control;

	if (session->process != shmipc_process_generation())
		return false;
	control = shmipc_segment_stream(&session->segment, place % STREAMS);
	if (atomic_load_explicit(&control->offer, memory_order_acquire) != one->offer ||
	    memcmp(control->key, claim->key, SHMIPC_KEY_BYTES) != 0 ||
	    shim_session_contradicts(control->client_cookie, claim->peer_cookie))
		return false;
	control->server_cookie = claim->self_cookie;
	atomic_store(&control->answer, shim_session_word(one->offer >> 8, SHMIPC_ANSWER_ATTACHED));
	if (place % STREAMS >= session->fresh)
		session->fresh = place % STREAMS + 1;
	session->live++;
	return true;
}

static bool is_served(int index)
{
	const struct shim_session *one = shim_session_at(index);

	return one->used && !one->peer.is_client && one->process == shmipc_process_generation();
}

bool shim_session_serves(uint64_t endpoint)
{
	bool found = false;

	if (!shim_session_enter())
		return false;
	for (int i = 0; i < shim_session_limit() && !found; i++)
		found = is_served(i) && shim_session_at(i)->peer.endpoint == endpoint &&
			!shim_session_peer_left(shim_session_at(i));
	shim_session_go();
	return found;
}

int shim_session_answer(const struct shim_session_claim *claim, int *session, uint32_t *stream)
{
	const uint32_t hash = hash_of(claim->key);
	uint32_t at;

	if (!shim_session_enter())
		return -ENOENT;
	for (int i = 0; i < shim_session_limit(); i++)
		if (is_served(i))
			read_letters(i);
	for (at = buckets[hash % BUCKETS]; at; at = announcements[at - 1].next)
		if (announcements[at - 1].hash == hash && answer_at(at - 1, claim))
			break;
	if (at) {
		*session = (int)((at - 1) / STREAMS);
		*stream = (at - 1) % STREAMS;
		forget(at - 1);
	}
	shim_session_go();
	return at ? 0 : -ENOENT;
}

void shim_session_server_leave(struct shim_session *session, uint32_t stream)
{
	struct shmipc_stream_control *control = shmipc_segment_stream(&session->segment, stream);
	uint32_t generation = atomic_load(&control->answer) >> 8;
	const bool kept = atomic_load(&control->keep) != 0;
	bool holds = kept || shim_session_has_grown(session, stream);

	/* the client has left: it hands the stream out again when we say so, and not before */
	if (atomic_load(&control->offer) == shim_session_word(generation, SHMIPC_OFFER_CLOSED)) {
		holds = kept && session->process == shmipc_process_generation() &&
			!shim_session_peer_left(session);
		if (kept && !holds)
			shim_session_drop_pages(session, stream);
		else if (!kept)
			shim_session_give_back(session, stream);
		memset((void *)control->direction, 0, sizeof(control->direction));
	}
	atomic_store(&control->answer, shim_session_word(generation, SHMIPC_ANSWER_CLOSED));
	if (holds)
		shim_session_server_doubts(session);
}
