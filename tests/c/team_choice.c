/* Which of a team and one thread is taken, for runs whose times are given. */
#include "plan/team_choice.h"

#include "checks.h"

enum { US = 1000, MS = 1000000 };

/* Runs until they have taken so long; the part of them that was one thread's. */
static double share_alone(dlc_team_choice *choice, int64_t team_ns, int64_t alone_ns, int64_t total_ns)
{
    int64_t runs = 0, alone = 0;
    for (int64_t spent = 0; spent < total_ns; runs++) {
        const bool is_alone = dlc_team_choice_is_alone(choice);
        const int64_t ns = is_alone ? alone_ns : team_ns;
        dlc_team_choice_note(choice, ns);
        spent += ns;
        alone += is_alone;
    }
    return (double)alone / (double)runs;
}

static void test_the_first_runs_start_no_threads(void)
{
    describe("the first runs");
    dlc_team_choice choice = dlc_team_choice_begin();
    expect(share_alone(&choice, US, 10 * US, 4 * MS) == 1, "a team came within 4 ms");
}

static void test_the_faster_is_taken_and_both_are_looked_at(void)
{
    describe("the faster of two");
    dlc_team_choice choice = dlc_team_choice_begin();
    share_alone(&choice, 5 * US, 8 * US, 10 * MS);
    const double by_team = share_alone(&choice, 5 * US, 8 * US, 5000 * (int64_t)MS);
    expect(by_team > 0 && by_team < 0.01, "%g of the runs of a faster team were alone", by_team);

    choice = dlc_team_choice_begin();
    share_alone(&choice, 20 * US, 8 * US, 10 * MS);
    const double alone = share_alone(&choice, 20 * US, 8 * US, 5000 * (int64_t)MS);
    expect(alone > 0.99 && alone < 1, "%g of the runs were alone beside a slower team", alone);
}

static void test_one_delayed_run_decides_nothing(void)
{
    describe("looks in which a run of the team is delayed");
    dlc_team_choice choice = dlc_team_choice_begin();
    share_alone(&choice, 5 * US, 8 * US, 10 * MS);
    for (int64_t run = 0; run < 1000000; run++) {
        const bool is_alone = dlc_team_choice_is_alone(&choice);
        dlc_team_choice_note(&choice, choice.look == 2 ? 10 * MS : is_alone ? 8 * US : 5 * US);
        if (!expect(!choice.is_alone, "run %lld: the team was given up", (long long)run))
            return;
    }
}

static void test_what_changes_is_noticed_within_seconds(void)
{
    describe("a team whose cores are taken away and given back");
    dlc_team_choice choice = dlc_team_choice_begin();
    share_alone(&choice, 5 * US, 8 * US, 3000 * (int64_t)MS);
    share_alone(&choice, 5 * MS, 8 * US, 1500 * (int64_t)MS);
    const double slow = share_alone(&choice, 5 * MS, 8 * US, 1000 * (int64_t)MS);
    expect(slow > 0.99, "%g of the runs were alone once the team took 5 ms", slow);
    share_alone(&choice, 5 * US, 8 * US, 2000 * (int64_t)MS);
    const double fast = share_alone(&choice, 5 * US, 8 * US, 1000 * (int64_t)MS);
    expect(fast < 0.01, "%g of the runs were alone once the team was fast again", fast);
}

static void test_looks_take_little_of_long_runs(void)
{
    describe("runs of 50 and 100 ms");
    dlc_team_choice choice = dlc_team_choice_begin();
    share_alone(&choice, 50 * MS, 100 * MS, 1000 * (int64_t)MS);
    const double alone = share_alone(&choice, 50 * MS, 100 * MS, 100000 * (int64_t)MS);
    expect(alone < 0.04, "%g of the runs of a faster team were alone", alone);
}

int main(void)
{
    test_the_first_runs_start_no_threads();
    test_the_faster_is_taken_and_both_are_looked_at();
    test_one_delayed_run_decides_nothing();
    test_what_changes_is_noticed_within_seconds();
    test_looks_take_little_of_long_runs();
    return finish_checks("team_choice");
}
