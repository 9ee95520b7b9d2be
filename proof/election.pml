/* The protocol of one election, for Spin. README.md maps the names here to the functions that really do it.

   Time is discrete: a check-in, and the longest call, are one tick. Whoever is awake has done what is due before the clock
   goes on; between two ticks everything may happen in any order. Counters stop at a limit: the state is finite, time is not
   bounded. Versions are not numbers: "its version still stands" means "nobody has written since", so each write makes a mere
   look of every swap that is under way (Written), and `current` tells whether a view is the record of now.
   Seniority, turns, readiness and failed reads only make a real heir wait longer: here each may try as soon as it is safe. */

/* Given by check.py: N, how many members (2 or 3); TTL, in ticks; FAULT, what is planted (below); FAULTS_AT_MOST, optional. */
#define MARGIN  1
#define BOUND   (TTL + 1)       /* ticks after the last fault within which somebody leads */
#define NOBODY  N               /* leader: vacant */
#define GONE    (N + 1)         /* leader: an incarnation that is no more (a restart is a new member), nor is its command */
#define UNREAD  (N + 2)

/* Planted faults: -DFAULT=… takes one line of the argument away. Spin must find what that breaks. */
#define NONE                    0
#define TRUST_FROM_ANSWER       1       /* trust is counted from the answer */
#define NO_MARGIN               2       /* trust lasts as long as an heir waits */
#define NO_DEADLINE             3       /* only the member keeps the deadline, its guard does not */
#define WAIT_SHORT              4       /* an heir does not wait a full ttl */
#define START_LATE              5       /* a guard starts a command whose lease is over */
#define RELEASE_BEFORE_GONE     6
#define WILL_BEFORE_GONE        7
#define WILL_UNCONDITIONAL      8       /* the will releases whoever leads by then */
#define SWAP_WITHOUT_VERSION    9
#define LATE_ANSWER_COUNTS      10      /* an answer that was given up counts for the next question */
#define NAMED_ONLY_LOOKS        11      /* who is named by a late write waits for others to move */
#define WATCH_STARTS_ANEW       12      /* every look starts an heir's wait again */
#define STORE_FORGETS           13      /* the store forgets a confirmed write, and its history has the same name as before */
#define CLOCK_STANDS            14      /* a clock stands still */
#define FORGOTTEN_IS_VACANT     16      /* a vacant record from before a fail-over is taken at once */
#define FORGOTTEN_NAMES         17      /* who is named from before a fail-over leads at once */
#define FORGOTTEN_AND_LATE      18      /* a leader whose trust had ended goes on after a fail-over */
#define FORGOTTEN_AND_RELEASED  19      /* a leader that may have released goes on after a fail-over */
#define NO_BACKSTOP             15      /* with member and guard out, nobody keeps the deadline */

mtype = { idle, look, take, renew, release }            /* Purpose */
mtype = { nothing, running, stopping }                  /* Command: what the member believes */
mtype = { no, lost, yield }                             /* Stop: why the command is being stopped */
mtype = { awake, member_frozen, guard_frozen, both_frozen, host_frozen }            /* both: member and guard */
mtype = { nowhere, asking, answering }                  /* where an exchange is */

typedef Member {
    bit up, guard, leads; mtype ice = awake;            /* the processes: heirflow run; guard and backstop */
    byte view = UNREAD; bit current; byte watch;        /* the leader as last read; no write since; ticks since first seen */
    byte trust;                 /* ticks until trusted_until */
    mtype cmd = nothing, stop = no, ask = idle, way = nowhere;
    byte age;                   /* ticks since the last question was sent */
    byte a_view; bit a_won, a_new, a_current, a_doubt;  /* the answer */
    bit doubt;                  /* the record, as last read, is from before a fail-over */
    mtype late = idle;          /* a swap that was given up and may still be carried out */
    bit start, gone;            /* StartCommand and CommandGone, while the other side is frozen */
    bit runs, will;             /* the command or a descendant of it is there; the will's helper is on its way */
    byte kill, lease            /* ticks until the guard's kill_at; and until the true end of trust, for the judge only */
}
Member m[N];
byte leader = NOBODY; bit calm; /* the record; the faults are over */
bit foreign;                    /* the record is from before a fail-over: what came after it may be forgotten */
byte alone, k;                  /* ticks since then in which nobody led; for loops, 0 in between */

#define TRUST       (FAULT == NO_MARGIN -> TTL : TTL - MARGIN)
#define WAIT        (FAULT == WAIT_SHORT -> TTL - 1 : TTL)
#define AWAKE(i)    (m[i].up && (m[i].ice == awake || m[i].ice == guard_frozen))
#define KEEPS(i)    (m[i].guard && (m[i].ice == awake || m[i].ice == member_frozen))
#define ALIVE(i)    (m[i].runs && m[i].ice != host_frozen)
#define HOLDS(i)    (m[i].leads && m[i].view == i)
#define OTHER(i)    (m[i].view != i && m[i].view != NOBODY && m[i].view != UNREAD)
/* Whether it watched the record of before a fail-over for as long as somebody unknown may lead. */
#define SURE(i)     (!m[i].doubt || m[i].watch >= WAIT)
/* A leader that goes on: nobody else can have taken charge in what is forgotten. */
#define IN_TIME(i)  (m[i].trust > 0 || FAULT == FORGOTTEN_AND_LATE)
#define KEPT_IT(i)  (!(m[i].cmd == nothing && m[i].stop == yield) || FAULT == FORGOTTEN_AND_RELEASED)
#define ENDED(i)    (m[i].cmd == nothing || FAULT == RELEASE_BEFORE_GONE)
/* Who keeps the deadline: the guard; a frozen guard's member; with that dead or frozen as well, the backstop. */
#define LATE(i)     (m[i].runs && m[i].kill == 0 && m[i].ice != host_frozen && KEPT(i))
#define KEPT(i)     ((FAULT != NO_DEADLINE || AWAKE(i)) && (FAULT != NO_BACKSTOP || AWAKE(i) || KEEPS(i)))
/* The clock waits for what is due: questions sent or given up, deadlines kept, a member's end seen by its guard. */
#define DUE(i)      ((AWAKE(i) && m[i].age) || LATE(i) || (!m[i].up && KEEPS(i)))
#define STOPPING(i) (m[i].runs && m[i].cmd == stopping)
#define SETTLED(i)  (m[i].ask == idle && m[i].ice == awake && m[i].late == idle && !m[i].will && !STOPPING(i))
#define READY(i)    (!DUE(i) && (!calm || SETTLED(i)))
#define UP(i)       m[i].up
#define LED(i)      (leader == i && m[i].runs)
#define ALL(X)      (X(0) && X(1) && (N < 3 || X(N - 1)))
#define ANY(X)      (X(0) || X(1) || X(N - 1))
#ifdef FAULTS_AT_MOST           /* of members, network and operators, in one story; otherwise there is no limit */
byte left = FAULTS_AT_MOST;
#define TROUBLE     (!calm && left)
#define SPEND       left--
#else
#define TROUBLE     (!calm)
#define SPEND       skip
#endif

/* ---- the store: swap if unchanged, and read, in one transaction ---- */

inline Written() {
    for (k : 0 .. N - 1) {
        m[k].current = 0; m[k].a_current = 0;
        if :: FAULT != SWAP_WITHOUT_VERSION -> m[k].late = idle; if :: m[k].way == asking -> m[k].ask = look :: else fi :: else fi
    }
    k = 0
}
inline Swap(i, what) {
    if
    :: what == release -> printf("%d releases\n", i); assert(!m[i].runs); leader = NOBODY     /* release only when gone */
    :: what == renew -> printf("%d renews\n", i); assert(leader == i)                         /* a term has one leader */
    :: what == take -> printf("%d takes charge\n", i);
        assert(!m[i].runs && (leader >= N || leader == i || !ALIVE(leader)));                 /* a leader's end comes first */
        leader = i
    fi;
    foreign = 0; Written()
}
inline Carry_out(i) {
    m[i].way = answering;
    if :: m[i].ask != look -> m[i].a_won = 1; Swap(i, m[i].ask) :: else fi;
    m[i].a_view = leader; m[i].a_doubt = foreign; m[i].a_new = !m[i].current; m[i].a_current = 1
}

/* ---- guard and backstop ---- */

inline Only(i) { for (k : 0 .. N - 1) { assert(k == i || !ALIVE(k)) } k = 0 }                 /* never two commands */
inline Begin(i) {               /* the guard hears StartCommand */
    m[i].start = 0;
    if :: m[i].kill == 0 && FAULT != START_LATE -> m[i].gone = 1
    :: else -> printf("the command of %d runs\n", i); m[i].runs = 1; Only(i) fi
}
inline Ended(i) { printf("nothing of %d runs\n", i); m[i].runs = 0; m[i].kill = 0; m[i].gone = m[i].up }

/* ---- the rules of a member ---- */

inline Ask(i) {
    m[i].ask = look;
    if
    :: HOLDS(i) && ENDED(i) && m[i].stop == yield -> m[i].ask = release
    :: HOLDS(i) && !(ENDED(i) && m[i].stop == yield) -> m[i].ask = renew
    :: !HOLDS(i) && m[i].cmd == nothing && m[i].view == i && FAULT != NAMED_ONLY_LOOKS &&
        (SURE(i) || FAULT == FORGOTTEN_NAMES) -> m[i].ask = take
    :: !HOLDS(i) && m[i].cmd == nothing && ((m[i].view == NOBODY && (SURE(i) || FAULT == FORGOTTEN_IS_VACANT)) ||
        (OTHER(i) && m[i].watch >= WAIT)) -> m[i].ask = take
    :: else fi;
    if :: !m[i].current && FAULT != SWAP_WITHOUT_VERSION -> m[i].ask = look :: else fi;       /* it can only lose */
    m[i].way = asking; m[i].age = 0
}
inline Start(i) {
    if
    :: HOLDS(i) && m[i].cmd == nothing && m[i].stop == no && m[i].trust > 0 ->
        m[i].cmd = running; m[i].start = 1; m[i].kill = m[i].trust;
        if :: m[i].ice == awake -> Begin(i)
        :: m[i].ice == awake && TROUBLE -> SPEND; m[i].ice = member_frozen     /* between deciding and acting */
        :: m[i].ice != awake fi
    :: else fi
}
inline Lose(i) {
    m[i].leads = 0; m[i].trust = 0; m[i].stop = no;
    if :: m[i].cmd != nothing -> m[i].cmd = stopping; m[i].stop = lost :: else fi
}
inline Forget(i) {              /* the exchange */
    if :: m[i].age > 1 -> m[i].age = 1 :: else fi;
    m[i].ask = idle; m[i].way = nowhere; m[i].a_view = 0; m[i].a_won = 0; m[i].a_new = 0; m[i].a_current = 0; m[i].a_doubt = 0
}
inline Answered(i) {
    if :: m[i].a_new || FAULT == WATCH_STARTS_ANEW -> m[i].view = m[i].a_view; m[i].doubt = m[i].a_doubt; m[i].watch = 0 :: else fi;
    m[i].current = m[i].a_current;
    if
    :: m[i].a_won && m[i].ask == release -> m[i].leads = 0; m[i].trust = 0; m[i].stop = no
    :: m[i].a_won && m[i].ask != release ->
        m[i].leads = 1; m[i].lease = (m[i].age < TTL - MARGIN -> TTL - MARGIN - m[i].age : 0);
        if :: FAULT == TRUST_FROM_ANSWER -> m[i].age = 0 :: else fi;
        m[i].trust = (m[i].age < TRUST -> TRUST - m[i].age : 0);
        if :: m[i].kill > 0 -> m[i].kill = m[i].trust :: else fi               /* ExtendLease: only before kill_at */
    :: else fi;
    if :: m[i].leads && (m[i].view != i || (m[i].doubt && !(IN_TIME(i) && KEPT_IT(i)))) -> Lose(i)         /* deposed */
    :: else fi;
    Forget(i); Start(i)
}
inline Gone(i) {
    m[i].gone = 0; m[i].cmd = nothing;
    if :: m[i].stop == lost || m[i].trust == 0 -> Lose(i)
    :: m[i].stop == no && m[i].trust > 0 -> m[i].stop = yield                  /* hand over to an heir */
    :: m[i].stop != lost && m[i].trust > 0 fi;                                 /* or start it again here */
    Start(i)
}

/* ---- what happens to them ---- */

inline Late_swap(i) { if :: m[i].way == asking && m[i].ask != look -> m[i].late = m[i].ask :: else fi }
inline Killed(i) {              /* what dies with a member */
    Late_swap(i); Forget(i);
    m[i].up = 0; m[i].view = UNREAD; m[i].doubt = 0; m[i].current = 0; m[i].watch = 0; m[i].leads = 0; m[i].trust = 0;
    m[i].cmd = nothing; m[i].stop = no; m[i].age = 0; m[i].start = 0; m[i].gone = 0;
    if :: m[i].ice == member_frozen -> m[i].ice = awake :: m[i].ice == both_frozen -> m[i].ice = guard_frozen :: else fi
}
inline Thaw(i) {                /* the guard's first act is to look at the clock; the instant before is fencing's business */
    if :: m[i].ice == host_frozen && m[i].runs -> m[i].ice = awake; if :: LATE(i) -> Ended(i) :: else -> Only(i) fi
    :: else -> m[i].ice = awake fi;
    if :: m[i].start -> Begin(i) :: else fi;
    if :: m[i].gone -> Gone(i) :: else fi
}

proctype Host(byte i) {         /* one member, its guard, its way to the store; a step is one event and all that follows */
    do
    :: atomic { AWAKE(i) && (m[i].way == answering || (m[i].ask == idle && m[i].age)) ->
        if :: m[i].way == nowhere -> Ask(i); if :: Carry_out(i) :: TROUBLE -> SPEND fi :: else fi;        /* at once, or later */
        if :: m[i].way == answering -> if :: Answered(i) :: TROUBLE -> SPEND fi :: else fi }              /* the same */
    :: d_step { AWAKE(i) && m[i].ask != idle && m[i].age && !calm ->           /* given up; lost, or late */
        if :: FAULT == LATE_ANSWER_COUNTS && m[i].way == answering -> m[i].age = 0 :: else -> Late_swap(i); Forget(i) fi }
    :: d_step { TROUBLE && AWAKE(i) && HOLDS(i) && m[i].stop == no -> SPEND;   /* switchover, drain, ill health, a signal */
        m[i].stop = yield; if :: m[i].cmd == running -> m[i].cmd = stopping :: else fi }

    :: atomic { LATE(i) || (STOPPING(i) && KEEPS(i)) || (TROUBLE && ALIVE(i)) ->
        if :: LATE(i) -> if :: !m[i].up -> m[i].guard = 0; m[i].will = 0 :: else fi                       /* struck in time */
        :: !LATE(i) && m[i].cmd == stopping && KEEPS(i)                                                   /* it obeyed */
        :: TROUBLE -> SPEND; if :: m[i].ice == guard_frozen -> m[i].ice = awake :: else fi fi;  /* by itself, or with its guard */
        Ended(i); if :: AWAKE(i) -> Gone(i) :: else fi }
    :: d_step { !m[i].up && KEEPS(i) -> Ended(i); m[i].guard = 0 }             /* end of file: kill, prove, then the will */

    :: d_step { m[i].way == asking -> Carry_out(i) }
    :: d_step { m[i].late != idle -> Swap(i, m[i].late); m[i].late = idle }
    :: d_step { m[i].late != idle -> m[i].late = idle }
    :: d_step { m[i].will && (!m[i].guard || FAULT == WILL_BEFORE_GONE) -> m[i].will = 0; printf("will of %d\n", i);
        if :: leader == i || FAULT == WILL_UNCONDITIONAL -> assert(!m[i].runs);                   /* release only when gone */
            leader = NOBODY; Written() :: else fi }

    :: d_step { TROUBLE && m[i].up && m[i].ice == awake -> SPEND; printf("%d frozen\n", i); m[i].ice = member_frozen }
    :: d_step { TROUBLE && m[i].guard && m[i].ice == awake -> SPEND; printf("guard of %d frozen\n", i); m[i].ice = guard_frozen }
    :: d_step { TROUBLE && m[i].guard && m[i].ice == awake -> SPEND; printf("host of %d frozen\n", i); m[i].ice = host_frozen }
#ifdef FAULTS_AT_MOST           /* only the backstop is awake then; not in the longest searches, which are long enough */
    :: d_step { TROUBLE && m[i].up && m[i].guard && (m[i].ice == awake || m[i].ice == guard_frozen) -> SPEND;
        printf("%d and its guard frozen\n", i); m[i].ice = both_frozen }
#endif
    :: atomic { m[i].ice != awake -> printf("%d is thawed\n", i); Thaw(i) }
    :: d_step { TROUBLE && m[i].up && m[i].ice != host_frozen -> SPEND; m[i].will = m[i].leads;
        printf("%d is killed\n", i); Killed(i) }
    :: d_step { TROUBLE && m[i].up && m[i].ice != host_frozen -> SPEND;        /* and its guard too: the backstop does the rest */
        printf("%d and its guard are killed\n", i); Killed(i); Ended(i); m[i].guard = 0; m[i].ice = awake }
    :: d_step { !calm && !m[i].up && !m[i].guard && m[i].late == idle -> printf("%d starts\n", i);         /* a new member */
        for (k : 0 .. N - 1) {
            if :: m[k].view == i -> m[k].view = GONE :: else fi;
            if :: m[k].way == answering && m[k].a_view == i -> m[k].a_view = GONE :: else fi }
        k = 0; if :: leader == i -> leader = GONE :: else fi;
        m[i].will = 0; m[i].lease = 0; m[i].up = 1; m[i].guard = 1; m[i].age = 1 }
    od
}

proctype World() {
    do
    :: d_step { TROUBLE -> SPEND; Written() }                                  /* an operator's order */
    :: d_step { !calm && leader == GONE -> leader = NOBODY; Written() }        /* a late will */
#ifdef FAULTS_AT_MOST           /* a fail-over that forgets: any record may come back, which is more than was ever there */
    :: atomic { TROUBLE -> SPEND; printf("a fail-over that forgets\n");
        if :: leader = NOBODY :: leader = 0 :: leader = 1 :: leader = N - 1 :: leader = GONE fi; foreign = 1; Written() }
#endif
    :: d_step { !calm && FAULT == STORE_FORGETS -> leader = NOBODY; Written() }
    :: d_step { !calm && ANY(UP) -> calm = 1 }
    :: d_step { ALL(READY) -> printf("tick\n");
        if :: !calm || ANY(LED) -> alone = 0 :: calm && !ANY(LED) && alone <= BOUND -> alone++ :: else fi;
        assert(alone <= BOUND);                                                /* always one, soon */
        for (k : 0 .. N - 1) {
            assert(!ALIVE(k) || m[k].lease > 0);                               /* no command after the lease */
            if :: m[k].lease > 0 && (m[k].runs || m[k].trust || m[k].start) -> m[k].lease-- :: else -> m[k].lease = 0 fi;
            if :: m[k].trust > 0 -> m[k].trust-- :: else fi;
            if :: m[k].kill > 0 && FAULT != CLOCK_STANDS -> m[k].kill-- :: else fi;
            if :: (OTHER(k) || m[k].doubt) && m[k].watch < TTL -> m[k].watch++ :: else fi;
            if :: m[k].up && m[k].age < (m[k].ask == idle -> 1 : TTL - MARGIN) -> m[k].age++ :: else fi
        }
        k = 0 }
    od
}

init { atomic { for (k : 0 .. N - 1) { run Host(k) } k = 0; run World() } }

ltl always_one { [] (calm -> <> [] ANY(LED)) }
