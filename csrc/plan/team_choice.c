#include "plan/team_choice.h"

/* A look is so many runs of a team and as many of one thread, of which the first wakes threads and fills caches, and does not
 * count. */
enum { RUNS_OF_EACH = 5, LOOK_RUNS = 2 * RUNS_OF_EACH };

/* From a look that changed the choice to the next; twice as long after each that did not, up to LONGEST_PAUSE. A team that seems
 * slow is soon looked at again, as a thread that was just made can share the core of its maker for a while. */
static const int64_t FIRST_PAUSE_OF_TEAM = 50000000, FIRST_PAUSE_ALONE = 5000000, LONGEST_PAUSE = 1000000000;

/* But no shorter than so many looks, which may take a team's runs twice as long */
enum { LOOKS_APART = 20 };

static int64_t min_ns(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max_ns(int64_t a, int64_t b) { return a > b ? a : b; }

dlc_team_choice dlc_team_choice_begin(void)
{
    return (dlc_team_choice){.is_alone = true, .look = LOOK_RUNS, .until_look_ns = FIRST_PAUSE_ALONE, .pause_ns = FIRST_PAUSE_ALONE};
}

static bool is_run_of_team(int look) { return look < RUNS_OF_EACH; }

bool dlc_team_choice_is_alone(const dlc_team_choice *choice)
{
    return choice->look < LOOK_RUNS ? !is_run_of_team(choice->look) : choice->is_alone;
}

static void end_look(dlc_team_choice *choice)
{
    const bool is_alone = choice->alone_ns <= choice->team_ns, is_new = is_alone != choice->is_alone;
    const int64_t first = is_alone ? FIRST_PAUSE_ALONE : FIRST_PAUSE_OF_TEAM;
    choice->is_alone = is_alone;
    choice->pause_ns = is_new ? first : min_ns(2 * choice->pause_ns, LONGEST_PAUSE);
    choice->until_look_ns = max_ns(choice->pause_ns, LOOKS_APART * (choice->team_ns + choice->alone_ns));
}

void dlc_team_choice_note(dlc_team_choice *choice, int64_t ns)
{
    if (choice->look == LOOK_RUNS) {
        choice->until_look_ns -= ns;
        if (choice->until_look_ns > 0)
            return;
        choice->look = 0;
        choice->team_ns = choice->alone_ns = 0;
        return;
    }
    if (choice->look % RUNS_OF_EACH != 0)
        *(is_run_of_team(choice->look) ? &choice->team_ns : &choice->alone_ns) += ns;
    if (++choice->look == LOOK_RUNS)
        end_look(choice);
}
