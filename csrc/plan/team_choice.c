#include "plan/team_choice.h"

#include "core/sizes.h"

/* A look is so many runs of a team and as many of one thread, of which the first wakes threads and fills caches, and does not
 * count. */
enum { RUNS_OF_EACH = 5, LOOK_RUNS = 2 * RUNS_OF_EACH };

/* From a look that changed the choice to the next; twice as long after each that did not, up to LONGEST_PAUSE. A team that seems
 * slow is soon looked at again, as a thread that was just made can share the core of its maker for a while. */
static const int64_t FIRST_PAUSE_OF_TEAM = 50000000, FIRST_PAUSE_ALONE = 5000000, LONGEST_PAUSE = 1000000000;

/* But no shorter than so many looks, which may take a team's runs twice as long */
enum { LOOKS_APART = 20 };

dlc_team_choice dlc_team_choice_begin(void)
{
    return (dlc_team_choice){
        .is_alone = true, .look = LOOK_RUNS, .until_look_ns = FIRST_PAUSE_ALONE, .pause_ns = FIRST_PAUSE_ALONE};
}

static bool is_run_of_team(int look) { return look < RUNS_OF_EACH; }

bool dlc_team_choice_is_alone(const dlc_team_choice *choice)
{
    return choice->look < LOOK_RUNS ? !is_run_of_team(choice->look) : choice->is_alone;
}

/* Without the longest run, which another process may have delayed */
static int64_t typical_ns(const dlc_team_times *times) { return times->sum_ns - times->longest_ns; }

/* What is slower by less than a twentieth stays. */
static bool is_better_alone(const dlc_team_choice *choice)
{
    const int64_t team = typical_ns(&choice->team), alone = typical_ns(&choice->alone);
    return choice->is_alone ? alone <= team + alone / 20 : alone + team / 20 < team;
}

static void end_look(dlc_team_choice *choice)
{
    const bool is_alone = is_better_alone(choice), is_new = is_alone != choice->is_alone;
    const int64_t first = is_alone ? FIRST_PAUSE_ALONE : FIRST_PAUSE_OF_TEAM;
    choice->is_alone = is_alone;
    choice->pause_ns = is_new ? first : dlc_min64(2 * choice->pause_ns, LONGEST_PAUSE);
    choice->until_look_ns = dlc_max64(choice->pause_ns, LOOKS_APART * (choice->team.sum_ns + choice->alone.sum_ns));
}

static void add_time(dlc_team_times *times, int64_t ns)
{
    times->sum_ns += ns;
    times->longest_ns = dlc_max64(times->longest_ns, ns);
}

void dlc_team_choice_note(dlc_team_choice *choice, int64_t ns)
{
    if (choice->look == LOOK_RUNS) {
        choice->until_look_ns -= ns;
        if (choice->until_look_ns > 0)
            return;
        choice->look = 0;
        choice->team = choice->alone = (dlc_team_times){0, 0};
        return;
    }
    if (choice->look % RUNS_OF_EACH != 0)
        add_time(is_run_of_team(choice->look) ? &choice->team : &choice->alone, ns);
    if (++choice->look == LOOK_RUNS)
        end_look(choice);
}
