/* mutant.h - known bugs that a test can switch on, to prove that it would find them.
 *
 * In products TL_MUTATE() is the constant false and leaves no trace. The test build
 * compiles the same sources with TL_MUTANTS and chooses one at run time. Most of them
 * are bugs that other systems have shipped. */
#ifndef THROUGHLINE_MUTANT_H
#define THROUGHLINE_MUTANT_H

#define TL_MUTANT_LIST(X)                                                              \
    X(ack_before_tail, "a node acknowledges what its successor does not have")         \
    X(forwards_lost, "after a middle's death only new records are forwarded")          \
    X(suffix_kept, "a former head comes back with its uncommitted records")            \
    X(removed_goes_on, "a replica that was removed goes on as if it were not")         \
    X(rejected_acknowledged, "what a fenced head could not commit is acknowledged")    \
    X(joiner_serves, "a joiner serves before its state is complete")                   \
    X(joiner_added_early, "a joiner is made the tail before it has the state")         \
    X(tail_commits_alone, "the old tail commits alone while the new one is decided")   \
    X(check_then_write, "a configuration is checked first, then written over any")     \
    X(flush_forgets, "an emptied Redis takes the first configuration it is shown")     \
    X(lease_of_sleeper, "a node that was stopped counts its sleep as others' silence") \
    X(epoch_not_raised, "a new head goes on under the old head's epoch")               \
    X(dead_slot_guessed, "a new chain begins though a member may be alive")            \
    X(unknown_forgotten, "a proposal of unknown outcome is taken for refused")         \
    X(dedup_off, "a gradient that arrives twice is folded twice")                      \
    X(join_resets_sequence, "a worker's restart resets its sequence")                  \
    X(zombie_worker, "an older incarnation's gradients are folded")                    \
    X(loss_not_counted, "acknowledged gradients that a state lacks are not counted")   \
    X(contributes_twice, "a worker contributes twice to one step")                     \
    X(staleness_unbounded, "the staleness bound is not enforced")                      \
    X(table_left_out, "the deduplication table is left out of the state")              \
    X(rate_left_out, "the learning rate is left out of the state")                     \
    X(barrier_left_out, "the open step is left out of the state")                      \
    X(live_buffer, "a cut reads the buffers that the fold goes on to write")           \
    X(position_apart, "a state's position is not the one of its weights")              \
    X(manifest_first, "the manifest is visible before its parts are")                  \
    X(clean_up_first, "old snapshots are removed before the new one is there")         \
    X(parts_not_checked, "a damaged part is loaded")                                   \
    X(hole_skipped, "a reader goes on behind a hole in the log")                       \
    X(trimmed_too_far, "the log is trimmed above the oldest snapshot")                 \
    X(newest_version_wins, "a fenced writer's snapshot wins by its higher version")

#ifdef TL_MUTANTS
enum tl_mutant {
    TL_MUTANT_none,
#define TL_MUTANT_ENUM(name, text) TL_MUTANT_##name,
    TL_MUTANT_LIST(TL_MUTANT_ENUM)
#undef TL_MUTANT_ENUM
        TL_MUTANT_COUNT
};
extern enum tl_mutant tl_mutant;
#define TL_MUTATE(name) (tl_mutant == TL_MUTANT_##name)
#else
#define TL_MUTATE(name) 0
#endif

#endif
