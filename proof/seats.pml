/* The protocol of one election with two seats, for Spin. What one seat needs (guard and backstop, frozen one by one, fail-overs) is
   in election.pml; this model asks what two records and one line add: a member looks at both, holds one at most, and may make
   the other one vacant. README.md maps the names here to the functions that really do it. Time is as in election.pml. */

/* Given by check.py: N, how many members (2 or 3); TTL, in ticks; FAULT, what is planted (below); FAULTS_AT_MOST. */
#define MARGIN  1
#define BOUND   (TTL + 3)       /* ticks after the last fault within which all seats are led for which there are members */
#define NOBODY  N
#define GONE    (N + 1)         /* leader: an incarnation that is no more, nor is its command */
#define UNREAD  (N + 2)
#define NOSEAT  2

/* Planted faults: -DFAULT=… takes one line of the argument away. Spin must find what that breaks. */
#define NONE                    0
#define WATCH_OF_ANOTHER        1       /* a seat is taken by the watch of another */
#define VACATE_EARLY            2       /* a seat is vacated before its lease is over */
#define VACATE_COUNTS           3       /* a seat that was made vacant counts as a renewal of the own one */
#define SECOND_SEAT             4       /* a leader takes another seat that is free */
#define SWAP_OF_THE_FIRST       5       /* a take replaces the record of the first seat, whichever it was decided about */
#define ONE_VERSION             6       /* a seat's version is taken for the other one's: what is old still lands */
#define ONLY_THE_FIRST          7       /* nobody looks at the second seat */
#define RELEASE_EARLY           8       /* the record is released before the command is gone */

mtype = { idle, look, take, renew, release, vacate }    /* Purpose */
mtype = { nothing, running, stopping }                  /* Command */
mtype = { no, lost, yield }                             /* Stop */
mtype = { awake, member_frozen, host_frozen }
mtype = { nowhere, asking, answering }

typedef Member {
    bit up, guard; mtype ice = awake;
    byte sits = NOSEAT;         /* the seat that it leads */
    byte view[2]; bit current[2]; byte watch[2];        /* of each seat: the leader as last read; no write since; ticks */
    byte trust;
    mtype cmd = nothing, stop = no, ask = idle, way = nowhere;
    byte at, age;               /* the seat whose record the question replaces; ticks since it was sent */
    byte a_view[2]; bit a_won, a_new[2], a_current[2];
    mtype late = idle; byte late_at;
    bit runs, gone, will; byte serves;                  /* the seat that its command runs for */
    byte kill, lease
}
Member m[N];
byte leader[2]; bit calm; byte few, k, s, where;

#define TRUST       (TTL - MARGIN)
#define AWAKE(i)    (m[i].up && m[i].ice == awake)
#define KEEPS(i)    (m[i].guard && m[i].ice != host_frozen)
#define ALIVE(i)    (m[i].runs && m[i].ice != host_frozen)
#define HOLDS(i)    (m[i].sits < 2 && m[i].view[m[i].sits] == i)
#define OTHER(i, x) (m[i].view[x] != i && m[i].view[x] != NOBODY && m[i].view[x] != UNREAD)
#define WATCH(i, x) (FAULT == WATCH_OF_ANOTHER && m[i].watch[1 - x] > m[i].watch[x] -> m[i].watch[1 - x] : m[i].watch[x])
#define FREE(i, x)  ((x == 0 || FAULT != ONLY_THE_FIRST) && \
    (m[i].view[x] == i || m[i].view[x] == NOBODY || (OTHER(i, x) && WATCH(i, x) >= TTL)))
#define YIELDS(i)   (m[i].stop == yield && (m[i].cmd == nothing || FAULT == RELEASE_EARLY))
/* Another seat that names it by a late write, or whose lease is over; and its own lease is fresh. */
#define LEFT(i, x)  (m[i].trust * 2 >= TRUST && (m[i].view[x] == i || (OTHER(i, x) && (m[i].watch[x] >= TTL || FAULT == VACATE_EARLY))))
#define LATE(i)     (ALIVE(i) && m[i].kill == 0)
#define STOPPING(i) (m[i].runs && m[i].cmd == stopping)
#define DUE(i)      ((AWAKE(i) && m[i].age) || LATE(i) || (!m[i].up && KEEPS(i)))
#define SETTLED(i)  (m[i].ask == idle && m[i].ice == awake && m[i].late == idle && !m[i].will && !STOPPING(i))
#define READY(i)    (!DUE(i) && (!calm || SETTLED(i)))
#define ALL(X)      (X(0) && X(1) && (N < 3 || X(N - 1)))
#define LED(x)      (leader[x] < N && m[leader[x]].runs && m[leader[x]].serves == x)
#define UPS         (m[0].up + m[1].up + (N < 3 -> 0 : m[N - 1].up))
#define ENOUGH      (LED(0) + LED(1) >= (UPS < 2 -> UPS : 2))
byte left = FAULTS_AT_MOST;
#define TROUBLE     (!calm && left)
#define SPEND       left--

/* ---- the store ---- */

inline Written(x) {
    for (k : 0 .. N - 1) {
        m[k].current[x] = 0; m[k].a_current[x] = 0;
        if :: m[k].late_at == x && FAULT != ONE_VERSION -> m[k].late = idle :: else fi;
        if :: m[k].way == asking && m[k].at == x && FAULT != ONE_VERSION -> m[k].ask = look :: else fi
    }
    k = 0
}
inline Comes_first(i, x) { for (k : 0 .. N - 1) { assert(k == i || !ALIVE(k) || m[k].serves != x) } k = 0 }   /* a leader's end comes first */
inline Swap(i, what, x) {
    where = (what == take && FAULT == SWAP_OF_THE_FIRST -> 0 : x);
    if
    :: what == release -> printf("%d releases seat %d\n", i, where); assert(!m[i].runs); leader[where] = NOBODY   /* release only when gone */
    :: what == renew -> printf("%d renews seat %d\n", i, where); assert(leader[where] == i)           /* a term has one leader */
    :: what == take -> printf("%d takes seat %d\n", i, where);
        assert(m[i].late == what || (!m[i].runs && (m[i].sits == NOSEAT || m[i].sits == where)));     /* one seat each */
        Comes_first(i, where); leader[where] = i
    :: what == vacate -> printf("%d vacates seat %d\n", i, where);
        assert(!m[i].runs || m[i].serves != where);                                                   /* release only when gone */
        Comes_first(i, where); leader[where] = NOBODY
    fi;
    Written(where); where = 0
}
inline Carry_out(i) {
    m[i].way = answering;
    if :: m[i].ask != look -> m[i].a_won = 1; Swap(i, m[i].ask, m[i].at) :: else fi;
    for (s : 0 .. 1) { m[i].a_view[s] = leader[s]; m[i].a_new[s] = !m[i].current[s]; m[i].a_current[s] = 1 } s = 0
}

/* ---- guard ---- */

inline Only(i) { for (k : 0 .. N - 1) { assert(k == i || !ALIVE(k) || m[k].serves != m[i].serves) } k = 0 }      /* never two of one seat */
inline Ended(i) { printf("nothing of %d runs\n", i); m[i].runs = 0; m[i].serves = 0; m[i].kill = 0; m[i].gone = m[i].up }

/* ---- the rules of a member ---- */

inline Ask(i) {
    m[i].ask = look; m[i].at = 0;
    if
    :: HOLDS(i) && YIELDS(i) -> m[i].ask = release; m[i].at = m[i].sits
    :: HOLDS(i) && !YIELDS(i) -> m[i].ask = renew; m[i].at = m[i].sits
    :: HOLDS(i) && !YIELDS(i) && LEFT(i, 1 - m[i].sits) -> m[i].ask = vacate; m[i].at = 1 - m[i].sits
    :: HOLDS(i) && FAULT == SECOND_SEAT && FREE(i, 1 - m[i].sits) -> m[i].ask = take; m[i].at = 1 - m[i].sits
    :: !HOLDS(i) && m[i].cmd == nothing && FREE(i, 0) -> m[i].ask = take
    :: !HOLDS(i) && m[i].cmd == nothing && FREE(i, 1) -> m[i].ask = take; m[i].at = 1
    :: else fi;
    if :: m[i].ask != look && !m[i].current[m[i].at] && FAULT != ONE_VERSION -> m[i].ask = look :: else fi;                /* it can only lose */
    m[i].way = asking; m[i].age = 0
}
inline Start(i) {
    if :: HOLDS(i) && m[i].cmd == nothing && m[i].stop == no && m[i].trust > 0 ->
        m[i].cmd = running; m[i].kill = m[i].trust; m[i].runs = 1; m[i].serves = m[i].sits;
        printf("the command of %d runs for seat %d\n", i, m[i].serves); Only(i)
    :: else fi
}
inline Lose(i) {
    m[i].sits = NOSEAT; m[i].trust = 0; m[i].stop = no;
    if :: m[i].cmd != nothing -> m[i].cmd = stopping; m[i].stop = lost :: else fi
}
inline Forget(i) {
    if :: m[i].age > 1 -> m[i].age = 1 :: else fi;
    m[i].ask = idle; m[i].way = nowhere; m[i].at = 0; m[i].a_won = 0;
    for (s : 0 .. 1) { m[i].a_view[s] = 0; m[i].a_new[s] = 0; m[i].a_current[s] = 0 } s = 0
}
inline Answered(i) {
    for (s : 0 .. 1) {
        if :: m[i].a_new[s] -> m[i].view[s] = m[i].a_view[s]; m[i].watch[s] = 0 :: else fi;
        m[i].current[s] = m[i].a_current[s]
    }
    s = 0;
    if
    :: m[i].a_won && m[i].ask == release -> m[i].sits = NOSEAT; m[i].trust = 0; m[i].stop = no
    :: m[i].a_won && (m[i].ask == take || m[i].ask == renew || (m[i].ask == vacate && FAULT == VACATE_COUNTS)) ->
        if :: m[i].ask != vacate -> m[i].sits = m[i].at; m[i].lease = (m[i].age < TRUST -> TRUST - m[i].age : 0) :: else fi;
        m[i].trust = (m[i].age < TRUST -> TRUST - m[i].age : 0);
        if :: m[i].kill > 0 -> m[i].kill = m[i].trust :: else fi
    :: else fi;
    if :: m[i].sits < 2 && !HOLDS(i) -> Lose(i) :: else fi;                                   /* deposed */
    if :: m[i].sits < 2 && m[i].at != m[i].sits -> Forget(i); m[i].age = 1     /* its own seat is renewed next, at once */
    :: else -> Forget(i) fi;
    Start(i)
}
inline Gone(i) {
    m[i].gone = 0; m[i].cmd = nothing;
    if :: m[i].stop == lost || m[i].trust == 0 -> Lose(i)
    :: m[i].stop == no && m[i].trust > 0 -> m[i].stop = yield
    :: m[i].stop != lost && m[i].trust > 0 fi;
    Start(i)
}

/* ---- what happens to them ---- */

inline Late_swap(i) {
    if :: m[i].way == asking && m[i].ask != look -> m[i].late = m[i].ask; m[i].late_at = m[i].at :: else fi
}
inline Unread(i) { for (s : 0 .. 1) { m[i].view[s] = UNREAD; m[i].current[s] = 0; m[i].watch[s] = 0 } s = 0 }
inline Killed(i) {
    Late_swap(i); Forget(i); Unread(i);
    m[i].up = 0; m[i].sits = NOSEAT; m[i].trust = 0; m[i].cmd = nothing; m[i].stop = no; m[i].age = 0; m[i].gone = 0;
    if :: m[i].ice == member_frozen -> m[i].ice = awake :: else fi
}
inline Thaw(i) {
    if :: m[i].ice == host_frozen && m[i].runs -> m[i].ice = awake; if :: LATE(i) -> Ended(i) :: else -> Only(i) fi
    :: else -> m[i].ice = awake fi;
    if :: m[i].gone && m[i].up -> Gone(i) :: else fi
}
inline Will(i) {                /* of the seat that its member led */
    for (s : 0 .. 1) { if :: leader[s] == i -> assert(!m[i].runs); leader[s] = NOBODY; Written(s) :: else fi } s = 0         /* release only when gone */
}

proctype Host(byte i) {
    do
    :: atomic { AWAKE(i) && (m[i].way == answering || (m[i].ask == idle && m[i].age)) ->
        if :: m[i].way == nowhere -> Ask(i); if :: Carry_out(i) :: TROUBLE -> SPEND fi :: else fi;
        if :: m[i].way == answering -> if :: Answered(i) :: TROUBLE -> SPEND fi :: else fi }
    :: d_step { AWAKE(i) && m[i].ask != idle && m[i].age && !calm -> Late_swap(i); Forget(i) }
    :: d_step { TROUBLE && AWAKE(i) && HOLDS(i) && m[i].stop == no -> SPEND;
        m[i].stop = yield; if :: m[i].cmd == running -> m[i].cmd = stopping :: else fi }
    :: atomic { LATE(i) || (STOPPING(i) && KEEPS(i)) || (TROUBLE && ALIVE(i)) ->
        if :: LATE(i) -> if :: !m[i].up -> m[i].guard = 0; m[i].will = 0 :: else fi
        :: !LATE(i) && m[i].cmd == stopping && KEEPS(i)
        :: TROUBLE -> SPEND fi;
        Ended(i); if :: AWAKE(i) -> Gone(i) :: else fi }
    :: d_step { !m[i].up && KEEPS(i) -> Ended(i); m[i].guard = 0 }
    :: d_step { m[i].way == asking -> Carry_out(i) }
    :: d_step { m[i].late != idle -> Swap(i, m[i].late, m[i].late_at); m[i].late = idle; m[i].late_at = 0 }
    :: d_step { m[i].late != idle -> m[i].late = idle; m[i].late_at = 0 }
    :: d_step { m[i].will && !m[i].guard -> m[i].will = 0; printf("will of %d\n", i); Will(i) }
    :: d_step { TROUBLE && m[i].up && m[i].ice == awake -> SPEND; printf("%d frozen\n", i); m[i].ice = member_frozen }
    :: d_step { TROUBLE && m[i].guard && m[i].ice == awake -> SPEND; printf("host of %d frozen\n", i); m[i].ice = host_frozen }
    :: atomic { m[i].ice != awake -> printf("%d is thawed\n", i); Thaw(i) }
    :: d_step { TROUBLE && m[i].up && m[i].ice != host_frozen -> SPEND; m[i].will = HOLDS(i); printf("%d is killed\n", i); Killed(i) }
    :: d_step { TROUBLE && m[i].up && m[i].ice != host_frozen -> SPEND;
        printf("%d and its guard are killed\n", i); Killed(i); Ended(i); m[i].guard = 0; m[i].ice = awake }
    :: d_step { !calm && !m[i].up && !m[i].guard && m[i].late == idle -> printf("%d starts\n", i);
        for (k : 0 .. N - 1) { for (s : 0 .. 1) {
            if :: m[k].view[s] == i -> m[k].view[s] = GONE :: else fi;
            if :: m[k].way == answering && m[k].a_view[s] == i -> m[k].a_view[s] = GONE :: else fi } }
        k = 0;
        for (s : 0 .. 1) { if :: leader[s] == i -> leader[s] = GONE :: else fi } s = 0;
        m[i].will = 0; m[i].lease = 0; m[i].up = 1; m[i].guard = 1; m[i].age = 1 }
    od
}

proctype World() {
    do
    :: d_step { !calm && leader[0] == GONE -> leader[0] = NOBODY; Written(0) }
    :: d_step { !calm && leader[1] == GONE -> leader[1] = NOBODY; Written(1) }
    :: d_step { !calm && UPS > 0 -> calm = 1 }
    :: d_step { ALL(READY) -> printf("tick\n");
        if :: !calm || ENOUGH -> few = 0 :: calm && !ENOUGH && few <= BOUND -> few++ :: else fi;
        assert(few <= BOUND);                                                  /* as many as can lead, soon */
        for (k : 0 .. N - 1) {
            assert(!ALIVE(k) || m[k].lease > 0);                               /* no command after the lease */
            if :: m[k].lease > 0 && (m[k].runs || m[k].trust) -> m[k].lease-- :: else -> m[k].lease = 0 fi;
            if :: m[k].trust > 0 -> m[k].trust-- :: else fi;
            if :: m[k].kill > 0 -> m[k].kill-- :: else fi;
            for (s : 0 .. 1) { if :: OTHER(k, s) && m[k].watch[s] < TTL -> m[k].watch[s]++ :: else fi }
            if :: m[k].up && m[k].age < (m[k].ask == idle -> 1 : TTL - MARGIN) -> m[k].age++ :: else fi
        }
        k = 0; s = 0 }
    od
}

init { atomic {
    leader[0] = NOBODY; leader[1] = NOBODY;
    for (k : 0 .. N - 1) { for (s : 0 .. 1) { m[k].view[s] = UNREAD } run Host(k) } k = 0; s = 0; run World()
} }
